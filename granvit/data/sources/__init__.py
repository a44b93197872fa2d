"""Where images come from: the table of sources, its adapters, downloads, the catalogue, ingest."""
