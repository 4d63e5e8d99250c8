"""Which backends a request may go to, in which order, and what happens when one fails.

`catalog` knows the models and their targets, `balance` orders the targets for one request, `failover` decides
after each failed attempt. All three are pure; `inventory` is the task that asks the backends what they serve.
"""
