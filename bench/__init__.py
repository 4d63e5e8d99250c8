"""What GhostLLM costs, next to what others cost, in one run on one machine: `scripts/bench`.

*mock*: the upstream of all, a process that answers at once and streams in time. *peer*: a gateway between
client and mock; `direct` is none. *leg*: one measurement of one peer. Legs alternate between peers and are
repeated, and medians are shown, because two runs on a shared machine differ by more than two peers may.
"""
