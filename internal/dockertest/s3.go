//go:build unix

package dockertest

import "github.com/walden-pg/walden/internal/s3test"

// S3Image is the official image that [Engine.S3] looks for.
const S3Image = "versity/versitygw:v1.8.0"

// S3 returns the name of an image of versitygw, an S3 server: the official one,
// or a stand-in, which runs the same program with the same arguments. Where
// versitygw was not built the test is skipped, on CI it fails.
func (e *Engine) S3() string {
	e.t.Helper()
	if image := e.official(S3Image); image != "" {
		return image
	}
	path := s3test.Program(e.t)
	r := newRootfs()
	r.file(path, "/usr/local/bin/versitygw")
	r.libraries(path)
	r.write("/etc/passwd", 0o644, "root:x:0:0:root:/root:/sbin/nologin\n")
	r.write("/etc/group", 0o644, "root:x:0:\n")
	r.change(`ENTRYPOINT ["/usr/local/bin/versitygw"]`)
	return e.standin("versitygw:v1.8.0", r)
}
