"""The ten lines of the documentation that read a shard and its index; nothing of this project is imported."""

import json
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import webdataset

shard, index = sys.argv[1:]
data = Path(shard).read_bytes()
rows = {row["key"]: row for row in parquet.read_table(index).to_pylist()}
for sample in webdataset.WebDataset(shard, shardshuffle=False):
    record, row = json.loads(sample["json"]), rows.pop(sample["__key__"])
    same = data[row["offset"] : row["offset"] + row["size"]] == sample["jpg"]
    print(record["key"], record["width"], len(record["regions"]), len(row["regions"]), same)
assert not rows
