"""`granvit data inspect`: a source, a folder of images or of shards, as counts and as pages to look at.

`reading` gives every image with what became of it, `findings` counts, `copies` finds duplicates, `pages`
writes.
"""
