# Two images: walden alone (the default is the last, so say --target walden), and
# PostgreSQL with walden in it, whose restore_command runs walden. Every image
# that is built upon can be replaced. docker/prebuilt.Dockerfile makes the same
# of bin/walden without a compiler: after `make build`.
ARG GO_IMAGE=golang:1.26-bookworm
ARG POSTGRES_IMAGE=postgres:17

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN make build VERSION="$VERSION"

FROM scratch AS walden
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/bin/walden /usr/local/bin/walden
# The stream's temporary files.
COPY --chown=65532:65532 docker/tmp /tmp
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/walden"]
CMD ["help"]

FROM ${POSTGRES_IMAGE} AS postgres
COPY --from=walden /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=walden /usr/local/bin/walden /usr/local/bin/walden
