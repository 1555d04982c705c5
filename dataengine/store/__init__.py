"""The bytes of a store: catalog, references, arrays, media, steps, shards."""
