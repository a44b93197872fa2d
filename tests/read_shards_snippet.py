"""The ten lines of the documentation that read a shard and its index; nothing of this project is imported."""

import json
import sys

import pyarrow.parquet as parquet
import webdataset

shard, index = sys.argv[1:]
rows = {row["key"]: row for row in parquet.read_table(index).to_pylist()}
for sample in webdataset.WebDataset(shard, shardshuffle=False):
    record, row = json.loads(sample["json"]), rows.pop(sample["__key__"])
    (image,) = (sample[name] for name in sample if name != "json" and name[0] != "_")
    print(record["key"], row["width"], len(record["regions"]), row["size"] == len(image))
assert not rows
