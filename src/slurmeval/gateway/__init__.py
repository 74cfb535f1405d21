"""The gateway: the small proxy beside each evaluation, between the harness and its model's server.

`process.start` runs one, `log.read` reads what it logged. docs/gateway.md describes both.
"""
