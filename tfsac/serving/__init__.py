"""A server for SavedModels that speaks TensorFlow Serving's protocols.

    errors.py      statuses, and how HTTP tells them
    savedmodel.py  one version on disk -> signatures that run
    batching.py    requests of many clients -> one run
    models.py      the versions of a model: load, swap, unload
    tensors.py     JSON and protos -> arrays -> JSON and protos
    service.py     what REST and gRPC have in common
    rest.py        HTTP
    rpc.py         gRPC
    metrics.py     Prometheus, and what the status page tells
    server.py      all of it in one process

It knows nothing of agents: it serves what `tfsac export` writes, and any other
SavedModel in TensorFlow Serving's layout. Needs the extra `[serve]`.
"""
