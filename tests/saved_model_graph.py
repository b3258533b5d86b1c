"""What is inside a SavedModel."""

from tensorflow.core.protobuf import saved_model_pb2


def read(path):
    """Returns nodes, functions and names of ops of the SavedModel at `path`."""
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString((path / "saved_model.pb").read_bytes())
    [graph] = saved_model.meta_graphs
    functions = graph.graph_def.library.function
    nodes = [
        *graph.graph_def.node,
        *(node for function in functions for node in function.node_def),
    ]
    own = {function.signature.name for function in functions}
    ops = {node.op for node in nodes} - own
    ops |= {op.name for op in graph.meta_info_def.stripped_op_list.op}
    return nodes, functions, ops
