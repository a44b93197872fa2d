"""A prediction that writes down every question before it is asked, for tests that kill it.

    logged_prediction.py JOB.json PROCESSES

Appends ``benchmark:index`` of each question to the file $ASKED; questions that are asked again alone, because
of a near tie, are not counted twice. Its processes run this same file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from granvit.evaluation import launch
from granvit.evaluation.asks import PredictionJob


def write_down_what_is_asked() -> None:
    from granvit.evaluation.predict import Pictures

    ask = Pictures.answer

    def asking(self, batch):
        with open(os.environ["ASKED"], "a") as file:
            file.write("".join(f"{question.slug}:{question.index}\n" for question in batch))
        return ask(self, batch)

    Pictures.answer = asking


if "RANK" in os.environ:
    write_down_what_is_asked()
    sys.exit(launch.main(sys.argv[1:]))
launch.COMMAND = [sys.executable, __file__]
job, processes = PredictionJob.model_validate_json(Path(sys.argv[1]).read_text()), int(sys.argv[2])
if processes == 1:
    write_down_what_is_asked()
launch.predict_on_devices(job, processes)
