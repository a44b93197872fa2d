"""Writes down every module of the package that a job of the workflow, or a process that it starts, imports.

Python runs this file by itself wherever its folder is on PYTHONPATH. One line an import goes to
`$RECORDED/{process}`: the job's rule, its script, the annotators that its parameters name, and the module.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


class Recorder:
    """Finds no module; it is asked for each one first."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "granvit" or (path is None and name.startswith("_")):
            main = sys.modules["__main__"]
            if job := getattr(main, "snakemake", None):
                script = Path(main.__file__).stem.rpartition(".")[2]  # scripts/tmp1234.train_run.py
                annotators = job.params.get("annotators", {}).get("versions", {})
                os.environ["RECORDED_JOB"] = " ".join([job.rule, script, ",".join(annotators) or "-"])
            if "RECORDED_JOB" in os.environ:
                with (Path(os.environ["RECORDED"]) / str(os.getpid())).open("a") as file:
                    file.write(f"{os.environ['RECORDED_JOB']} {name}\n")


if "RECORDED" in os.environ:
    Path(os.environ["RECORDED"]).mkdir(parents=True, exist_ok=True)
    sys.meta_path.insert(0, Recorder())
