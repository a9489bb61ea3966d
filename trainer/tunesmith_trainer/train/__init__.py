"""The train stage: Ray Train places the workers, a loop of ours trains on each of them.

Read it in this order: `stage` (what comes in and goes out), `ray_cluster` (the Ray of the run),
`ray_train` (what Ray Train is told, and what its failures mean), `worker` (what each Ray worker
runs), `config` (the spec, and what is decided of it), `loop` (the training itself) and the parts it
is made of: `adapters`, `dataloader`, `optimizer`, `collectives`, `history`, `train_state`,
`checkpoints`, `observers` (`progress`, `trackers`, `metrics_exporter`); then `export`.
"""
