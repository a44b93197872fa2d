"""The five rules that train: one run from its recipe."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.config.loading import load_config
    from granvit.config.schema import EncoderSpec, LLMSpec, Recipe
    from granvit.training.launch import Job, launch

    def run_folder(name):
        manifest = job.input.get(name)
        return str(Path(manifest).parent) if manifest else None

    recipe = Recipe(**job.params.run["recipe"])
    # Not from the rule's params: how a run is laid out changes nothing that it learns, so it reruns nothing.
    compute = load_config(job.wildcards.scale, job.config["overrides"]).compute
    launch(
        Job(
            recipe=recipe,
            seed=int(job.wildcards.seed),
            encoder=EncoderSpec(**job.params.run["encoder"]),
            llm=LLMSpec(**job.params.run["llm"]),
            parent_dir=run_folder("parent"),
            encoder_dir=run_folder("encoder_from"),
            mixture=job.input.mixture,
            heldout=job.input.get("heldout"),
            out_dir=str(Path(job.output.manifest).parent),
            state_dir=job.params.state,
            device=job.params.device,
            log=str(log),
            compute=compute.for_run(recipe),
        ),
        compute.launcher,
        compute.train_devices,
        compute.train_nodes,
    )


run(snakemake, main)
