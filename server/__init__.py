"""The server: what generations exist, who runs which, and the bytes that lead from one to the next.

    domain      frozen values: models, generations, steps, plans, devices, attempts
    planner     the cheapest route for a device (pure)
    registry    the database (SQLAlchemy and Alembic stay inside)
    artifacts   blobs by SHA-256
    home        one folder with both
    publishing  how a generation comes to exist
    devices     enrolment, check-in, reports: decisions of the planner put into effect
    overview    the fleet at a glance, as values; web shows them in a browser
    service     the gRPC border; serving starts and stops it; cli is `ota-server`

Not for: training, which lives in server.training and runs in a process of its own. The serving
process never imports torch, and nothing here imports the edge client.
"""
