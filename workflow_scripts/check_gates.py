"""Rule check_gates: what the miniature must show before a GranViT model is trained on it."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.config.gates import load_gates
    from granvit.config.tables import load_tables
    from granvit.files import read_json
    from granvit.reporting.gates import baseline_gates, page_gate, standin_gates, write_gates

    gates, given = load_gates(), job.input
    llms = dict(zip(job.params.llms, given.llms, strict=True))
    encoders = dict(zip(job.params.encoders, given.encoders, strict=True))
    symbols = read_json(llms[job.params.baseline_llm])["symbols"]
    shared = next(iter(load_tables().values())).shared
    scores, chance = (Path(files[0]).parents[2] for files in (given.scores, given.chance))
    rows = [
        *standin_gates(gates.llms, llms, "symbols"),
        *standin_gates(gates.encoders, encoders, "probe"),
        *baseline_gates(gates, shared, scores, chance, symbols),
        page_gate(gates, given.losses),
    ]
    write_gates(rows, job.wildcards.scale, job.output.csv, job.output.md)


run(snakemake, main)
