"""An image with its regions: records, shards, filters, packed shards."""
