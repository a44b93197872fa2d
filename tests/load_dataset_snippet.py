"""The lines of the documentation that read shards with `datasets`; nothing of this project is imported."""

import sys

import pyarrow.parquet as parquet
from datasets import Features, Image, Value, load_dataset

tars = sys.argv[1:]
record = Features.from_arrow_schema(parquet.read_schema(tars[0].replace(".tar", ".parquet")))
del record["offset"], record["size"]
endings = ["jpg", "png", "webp", "bmp", "tiff", "gif", "avif", "ppm"]
features = Features({"__key__": Value("string"), "json": record} | {name: Image() for name in endings})
for row in load_dataset("webdataset", data_files=tars, split="train", features=features):
    image = next(row[name] for name in endings if row[name])
    print(row["json"]["key"], image.size, row["json"]["caption"], len(row["json"]["regions"]))
