"""A server for SavedModels that speaks TensorFlow Serving's protocols.

    savedmodel.py     one version on disk -> signatures that run
    safety.py         which of them are served
    batching.py       requests of many clients -> one run
    models.py         the versions of a model: load, swap, unload
    service.py        what REST and gRPC have in common
    intake.py         requests within bounds: number, bytes, rows, time
    json_document.py, json_tensors.py, proto_tensors.py
                      what is sent -> arrays -> what is answered
    rest.py, rpc.py   HTTP and gRPC
    connections.py    how many, and for how long
    errors.py         statuses, and how HTTP tells them
    metrics.py, status_page.py
                      what operators see
    server.py         all of it in one process

It knows nothing of agents: it serves what `tfsac export` writes, and any other
SavedModel in TensorFlow Serving's layout. Needs the extra `[serve]`.
"""
