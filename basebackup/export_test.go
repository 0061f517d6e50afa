package basebackup

// WithPackSize makes packs small, so that files span them.
func (o Options) WithPackSize(raw int64) Options {
	o.packSize = raw
	return o
}
