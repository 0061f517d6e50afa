// Package dockertest runs tests against a Docker engine: it finds the engine,
// makes images that stand in for official ones where no registry can be
// reached, and removes everything that a test made, also what an earlier run
// left that was killed.
//
//	e := dockertest.Start(t)
//	image := e.Postgres(17)
//	id := e.Docker("run", "-d", e.Label(), "-e", "POSTGRES_PASSWORD=secret", image)
//
// Where no engine answers, the test is skipped by name, on CI too: it is the one
// thing that a machine may lack. An image that the engine has under its official
// name is used as it is. On CI nothing is pulled, ever; at the desk an official
// image is pulled if the registry answers. Else a stand-in is made of the
// programs of this machine, those that internal/pgtest and internal/s3test use.
//
// Everything that is made carries the name of the run, "waldentest-PID-NUMBER":
// containers, volumes and networks as their compose project or as the label
// "walden.test", images as the first part of their names. So whatever belongs to
// a process that is gone can be found and removed by the next one.
//
// The package is for tests alone; nothing that ships imports it.
package dockertest
