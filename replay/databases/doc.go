// Package databases tells which databases a backup holds and which of its files
// one of them needs, so that a restore can leave the others' out.
//
// # Which databases there are
//
// A backup is a copy of files, and the names of databases are rows of
// pg_database, a shared catalogue: global/pg_filenode.map says which file holds
// it. Its pages are read as they lie in the backup. Which rows are visible is
// not decided: that would take the transaction status, and the WAL may say
// otherwise at the moment that is restored to. Every version of a row counts
// instead, so that what is kept for a name is never too little. Whoever has
// replayed the WAL asks the server which database has the name now, and looks
// here whether its files were restored (Choice.State).
//
// # Hollow databases
//
// The files of databases that were not chosen become hollow: files of zeros of
// the right size, which take no room and are not downloaded. WAL that touches
// them is replayed nevertheless. A record with an image of the page, or one that
// begins the page anew, makes the page what it would have been. Of pages that
// change after the backup's redo point the first record has an image, since
// full_page_writes is on while a backup runs; but not every reference to a page
// is a change that needs one: setting the visibility map's bit names the heap's
// page without an image where checksums are off (log_heap_visible), and so does
// the clean-up of a hash index with the bucket's first page (hash_xlog.c).
// PostgreSQL passes over such a page that is all zeros
// (XLogReadBufferExtended), remembers it, and ends with a PANIC once the
// cluster is consistent, unless ignore_invalid_pages is on: then it warns. So
// that setting is needed for such a directory, and what it would hide elsewhere
// is looked for in the server's log: replay/recovery counts the pages by their
// database, and where one of them belongs to a database that was restored, or to
// the shared catalogues, recovery has failed.
//
// Kept beside what was chosen are the shared catalogues and the databases that
// CREATE DATABASE may copy from as files: those marked as templates.
package databases
