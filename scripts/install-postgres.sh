#!/usr/bin/env bash
# Installs the PostgreSQL majors that the tests run on, side by side.
#
#	scripts/install-postgres.sh [MAJOR...]        default: 15 17 18
#	scripts/install-postgres.sh --bindir MAJOR    prints where its programs are
#
# A major that the system's own Debian release has is installed from there
# (without making or starting a cluster). The others are taken out of the
# packages of the Debian release that has them and put, with the libraries they
# need, into .tools/postgresql/MAJOR: the system's packages and apt sources stay
# as they are. WALDEN_TOOLS names another place than .tools; a checkout that the
# user postgres cannot enter makes it /opt/walden-test.
#
# Running it again is quick. A run that was interrupted is started over: an
# installation counts from the moment its stamp is written, which is last.
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

# Raised when what is installed, or how, changes: older installations are redone.
recipe=1
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# suites MAJOR: the Debian suites that have it. 19 is a release candidate
# whose libraries come from sid; the tests do not require it.
suites() {
	case $1 in
	15) echo bookworm ;;
	17) echo trixie ;;
	18) echo forky ;;
	19) echo experimental sid ;;
	*) die "PostgreSQL $1: no Debian suite is known to have it" ;;
	esac
}

stamp_text() { printf '%s\nrecipe %s\n' "$1" "$recipe"; }

# bindir MAJOR: prints where the programs of an installed major are.
bindir() {
	local dir="$servers/postgresql/$1" var="WALDEN_PG$1_BINDIR"
	if [ -n "${!var:-}" ]; then
		echo "${!var}"
	# The stamp names the directory: one that was moved does not work any more.
	elif [ "$(head -n 2 "$dir/.complete" 2>/dev/null)" = "$(stamp_text "$dir")" ]; then
		echo "$dir/usr/lib/postgresql/$1/bin"
	else
		echo "/usr/lib/postgresql/$1/bin"
	fi
}

# installed MAJOR: whether a usable server is there already.
installed() { [ -x "$(bindir "$1")/postgres" ] && [ -x "$(bindir "$1")/initdb" ]; }

# need_user: servers do not run as root but, then, as the user postgres.
need_user() {
	[ "$(id -u)" != 0 ] || id postgres >/dev/null 2>&1 && return
	say "adding the system user postgres"
	command -v useradd >/dev/null || apt_install passwd
	useradd --system --user-group --home-dir /var/lib/postgresql --shell /bin/bash postgres
}

# debian_mirror: the mirror that the system's own Debian packages come from.
debian_mirror() {
	# shellcheck disable=SC2016 # apt-get fills these in, not the shell
	apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "Debian" && $2 == "Debian" && !n++ { print $3 }'
}

# from_system MAJOR: fails if it should not come from the system's own sources:
# they lack it, or PostgreSQL is in use here and the package would follow the
# administrator's wish to have a cluster made and started.
from_system() {
	local conf=/etc/postgresql-common/createcluster.conf
	[ ! -e "$conf" ] || return 1
	apt_refresh
	[[ $(apt-cache policy "postgresql-$1") =~ Candidate:\ [0-9] ]] || return 1
	as_root mkdir -p "${conf%/*}"
	echo 'create_main_cluster = false' | as_root tee "$conf" >/dev/null
	apt_install "postgresql-$1" "postgresql-client-$1" tzdata
	# Leave Debian's own file behind, as if we had never been here.
	if [ -e "$conf.ucf-dist" ]; then as_root mv "$conf.ucf-dist" "$conf"; fi
}

# private_apt WORK SUITE...: makes an apt that knows these suites alone and
# believes that nothing is installed but what a server that is only unpacked
# does without: Debian's scripts around it. Sets the array apt.
private_apt() {
	local work=$1 mirror suite options
	shift
	mkdir -p "$work"/{etc/apt.conf.d,etc/preferences.d,etc/sources.list.d,etc/trusted.gpg.d,lists/partial,cache/archives/partial}
	cat >"$work/status" <<-EOF
		Package: walden-test-base
		Status: install ok installed
		Architecture: all
		Version: 1
		Maintainer: nobody
		Provides: locales, tzdata, ssl-cert, adduser, netbase, debconf, debconf-2.0, perl, sensible-utils,
		 ucf, init-system-helpers, postgresql-common (= 999), postgresql-client-common (= 999)
		Description: stands in for what is not unpacked
	EOF
	# In experimental, apt takes by itself only what is named.
	printf 'Package: libpq5\nPin: release a=experimental\nPin-Priority: 990\n' >"$work/etc/preferences"
	mirror=$(debian_mirror)
	if [ -z "$mirror" ]; then
		apt_refresh
		mirror=$(debian_mirror)
	fi
	[ -n "$mirror" ] || die "the system's apt sources name no Debian mirror"
	for suite; do
		options="signed-by=$keyring"
		# Mirrors may hold back these suites, whose release files expire.
		case $suite in forky | sid | experimental) options+=" check-valid-until=no" ;; esac
		echo "deb [$options] $mirror $suite main"
	done >"$work/etc/sources.list"
	apt=(-q -o Acquire::Retries=3 -o APT::Sandbox::User= -o APT::Install-Recommends=false
		-o Dir::State="$work" -o Dir::State::status="$work/status" -o Dir::State::lists="$work/lists"
		-o Dir::Cache="$work/cache" -o Dir::Etc="$work/etc" -o Acquire::Languages=none
		-o APT::Update::Post-Invoke= -o APT::Update::Post-Invoke-Success=)
	apt-get "${apt[@]}" update >"$work/update.log" 2>&1 || true
	if ! grep -q '^Err\|NO_PUBKEY\|^E:' "$work/update.log"; then return; fi
	# An old release's keyring may not know the keys of a newer one.
	apt_install debian-archive-keyring
	apt-get "${apt[@]}" update >"$work/update.log" 2>&1 || {
		cat "$work/update.log" >&2
		die "cannot read the package lists of: $*"
	}
}

# closure MAJOR: the packages to unpack: the server, its client and
# every library they need, libc included. LLVM is left out: it is larger than
# all the rest, and without it queries are merely not compiled.
closure() {
	apt-get "${apt[@]}" -s install "postgresql-$1" "postgresql-client-$1" |
		awk -v major="$1" '
			$1 != "Inst" { next }
			$2 == "postgresql-" major || $2 == "postgresql-client-" major { print $2 }
			$2 ~ /^(lib|zlib1g)/ && $2 !~ /^lib(llvm|perl|z3|c-bin|ldap-common)/ { print $2 }'
}

is_elf() { [ "$(head -c 4 "$1" | tr -d '\0')" = $'\x7fELF' ]; }

# relocate DIR MAJOR: makes the unpacked programs find their libraries, and the loader,
# in DIR. No LD_LIBRARY_PATH is needed, so that what a server runs as
# archive_command or restore_command gets the system's own libraries.
relocate() {
	local dir=$1 bin="$1/usr/lib/postgresql/$2/bin" triplet loader rpath file
	loader=$(basename "$(patchelf --print-interpreter "$bin/postgres")")
	loader=$(find "$dir" -name "$loader" -type f -print -quit)
	[ -n "$loader" ] || die "PostgreSQL $2: its packages brought no dynamic loader"
	triplet=$(basename "$(dirname "$loader")")
	rpath=$dir/usr/lib/$triplet:$dir/lib/$triplet
	for file in "$bin"/*; do
		if ! [ -L "$file" ] && is_elf "$file"; then
			patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$rpath" "$file"
		fi
	done
	# A program's RPATH counts for the libraries it loads too, unless they
	# have a search path of their own.
	find "$dir" -path '*/lib/*' -type f -name '*.so*' | while read -r file; do
		case $file in "$loader" | */libc.so.*) continue ;; esac
		if is_elf "$file" && [ -n "$(patchelf --print-rpath "$file")" ]; then
			patchelf --force-rpath --set-rpath "$rpath" "$file"
		fi
	done
}

# unpacked MAJOR: installs it into $servers/postgresql/MAJOR.
unpacked() {
	local major=$1 dir="$servers/postgresql/$1" work suite bin file foreign
	local -a from packages
	suite=$(suites "$major")
	read -ra from <<<"$suite"
	suite=${from[0]}
	say "PostgreSQL $major: taking it from Debian $suite into $dir"
	work=$(mktemp -d)
	# shellcheck disable=SC2064 # the directory of now is meant
	trap "rm -rf '$work'" EXIT
	private_apt "$work" "${from[@]}"
	mapfile -t packages < <(closure "$major")
	[ ${#packages[@]} -gt 2 ] || die "PostgreSQL $major: Debian $suite does not have it (any more)"
	mkdir "$work/debs"
	(cd "$work/debs" && apt-get "${apt[@]}" download "${packages[@]}" >"$work/download.log" 2>&1) || {
		cat "$work/download.log" >&2
		die "PostgreSQL $major: download failed"
	}
	rm -rf "$dir"
	mkdir -p "$dir"
	for file in "$work"/debs/*.deb; do dpkg-deb -x "$file" "$dir"; done
	bin=$dir/usr/lib/postgresql/$major/bin
	# Its library was left out; without the file itself the server does not try.
	rm -rf "$dir/usr/lib/postgresql/$major/lib/"llvmjit* "$dir/usr/lib/postgresql/$major/lib/bitcode" \
		"$dir/usr/share/doc" "$dir/usr/share/man"
	relocate "$dir" "$major"
	chmod -R a+rX "$dir"
	for file in "$bin"/*; do
		"$file" --version >/dev/null || die "PostgreSQL $major: $file does not run"
		foreign=$(LD_TRACE_LOADED_OBJECTS=1 "$file" | awk -v dir="$dir/" '/=>/ && index($3, dir) != 1')
		[ -z "$foreign" ] || die "PostgreSQL $major: $file finds libraries outside its own: $foreign"
	done
	{
		stamp_text "$dir"
		(cd "$work/debs" && printf '%s\n' *.deb)
	} >"$dir/.complete"
	rm -rf "$work"
	trap - EXIT
}

install_major() {
	if installed "$1"; then return; fi
	if from_system "$1" && [ -x "/usr/lib/postgresql/$1/bin/postgres" ]; then
		say "PostgreSQL $1: ready, from the system's own packages"
		return
	fi
	[ -x "$(command -v patchelf)" ] || apt_install patchelf
	[ -e /usr/share/zoneinfo/UTC ] || apt_install tzdata
	unpacked "$1"
	say "PostgreSQL $1: ready"
}

[ $# -gt 0 ] || set -- 15 17 18
only_tell=
if [ "$1" = --bindir ]; then
	only_tell=yes
	shift
fi
for major; do [[ $major =~ ^[0-9]+$ ]] || die "usage: ${0##*/} [--bindir] [MAJOR...]"; done
servers=$(servers_dir)
if [ -n "$only_tell" ]; then
	for major; do
		if installed "$major"; then bindir "$major"; fi
	done
	exit 0
fi

missing=()
for major; do installed "$major" || missing+=("$major"); done
if ! is_debian; then
	[ ${#missing[@]} = 0 ] && exit 0
	say "this is not Debian: install PostgreSQL ${missing[*]} yourself and set WALDEN_PG<major>_BINDIR" >&2
	# At the desk the tests of these majors are then skipped by name.
	[ "${CI:-}" = true ] && exit 1
	exit 0
fi
if [ ${#missing[@]} -gt 0 ]; then
	say "installing PostgreSQL ${missing[*]} for the tests"
	mkdir -p "$servers/postgresql"
	# Two runs at once would unpack over each other.
	exec 9>"$servers/postgresql/.lock"
	flock 9
	for major in "${missing[@]}"; do install_major "$major"; done
fi
need_user
