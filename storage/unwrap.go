package storage

// Unwrap returns the store under all decorators: the driver, for those who
// look for one of its optional abilities.
func Unwrap(s Store) Store {
	for {
		d, ok := s.(interface{ Unwrap() Store })
		if !ok {
			return s
		}
		s = d.Unwrap()
	}
}
