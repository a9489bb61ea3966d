"""The train stage: Ray Train places the workers, a loop of ours trains on each of them.

Read it in this order: `stage` (what comes in and goes out), `recipe` (every number decided),
`cluster` (Ray on this machine), `worker` (what each Ray worker runs), `loop` (the training itself)
and the parts it is made of: `order`, `batches`, `loss`, `schedule`, `optimizer`, `ranks`,
`checkpoints`, `curve`; then `export`.
"""
