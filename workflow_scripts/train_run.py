"""The five rules that train: one run from its recipe."""

from pathlib import Path

from _script import run


def main(job, log):
    from _config import config_of

    from granvit.config.recipes import Recipe
    from granvit.finished import remove_state_of
    from granvit.training.job import Job
    from granvit.training.launch import launch
    from granvit.training.limit import within_limit

    def path(name, folder=False):
        file = job.input.get(name)
        return file and (Path(file).parent if folder else Path(file))

    settings = dict(job.params.run)  # recipe, encoder, llm
    recipe = Recipe(**settings.pop("recipe"))
    compute = config_of(job).compute  # how a run is laid out changes nothing that it learns
    task = Job(
        **settings,
        recipe=recipe,
        seed=int(job.wildcards.seed),
        mixture=path("mixture"),
        heldout=path("heldout"),
        matched=path("tokens_of"),
        parent_dir=path("parent", folder=True),
        encoder_dir=path("encoder_from", folder=True),
        out_dir=Path(job.output.manifest).parent,
        state_dir=Path(job.params.state),
        device=job.params.device,
        log=log,
        compute=compute.for_run(recipe),
    )
    remove_state_of(task.parent_dir, task.encoder_dir)
    with within_limit(task, compute.minutes_to_save):
        launch(task, compute.launcher, compute.train_devices, compute.train_nodes)


run(snakemake, main)
