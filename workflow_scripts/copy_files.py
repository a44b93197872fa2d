"""Rules copy_table, copy_figure and copy_report: a result under the name that people ask for."""

import shutil
from pathlib import Path

from _script import run


def main(job, log):
    from granvit.files import copy_folder

    for source, target in zip(job.input, job.output, strict=True):
        if Path(source).is_dir():
            copy_folder(source, target)
        else:
            shutil.copyfile(source, target)


run(snakemake, main)
