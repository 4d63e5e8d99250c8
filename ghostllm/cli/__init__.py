"""The command lines: `ghostllm` runs the gateway, `ghostctl` asks a running one over HTTP.

Exit codes of both: 0 fine, 1 it failed while running, 2 wrong usage or configuration.
"""
