"""What `config/` says: loaded, merged, typed and checked."""
