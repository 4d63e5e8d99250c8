"""What GhostLLM costs, next to what others cost, in one run on one machine: `scripts/bench`.

*mock*: the upstream of all, a process that answers at once and streams in time, in three dialects (*speech*).
*peer*: a gateway between client and mock; `direct` is none. *leg*: one measurement of one peer. Legs
alternate between peers and are repeated, and medians are shown, because two runs on a shared machine differ
by more than two peers may; delays are taken in turns of a tenth of a second for the same reason.
`bench.micro` times single functions, `bench.soak` looks for what is left behind, `bench.report` prints a
run's tables again.
"""
