"""Which signatures clients may run, and which models are loaded.

A signature that a client runs with inputs of its own must not name files, run
Python, or change what others are answered: it only computes. To load a model
runs ops of its own too, which may set its variables and tables besides.
TensorFlow says of each op whether it has a state; of those that have one only
the ops below are let through, so that one which is not known is refused.
"""

import itertools
from collections.abc import Iterable

import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2, op_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2

__all__ = ["missing_functions", "unsafe_loading_ops", "unsafe_ops"]

# Ops with a state that they only read, that is a call's own, or is chance.
_HARMLESS = frozenset(
    """
    VarHandleOp ReadVariableOp ResourceGather ResourceGatherNd VariableShape
    VarIsInitializedOp DisableCopyOnRead Variable VariableV2
    HashTable HashTableV2 LookupTableFindV2 LookupTableSizeV2
    If While Case StatefulPartitionedCall XlaCallModule DeviceIndex
    Assert CheckNumerics CheckNumericsV2 GuaranteeConst Empty
    TensorArrayV3 TensorArrayReadV3 TensorArrayWriteV3 TensorArrayGatherV3
    TensorArrayScatterV3 TensorArrayConcatV3 TensorArraySplitV3
    TensorArraySizeV3 TensorArrayCloseV3
    StackV2 StackPushV2 StackPopV2 StackCloseV2
    RandomUniform RandomUniformInt RandomStandardNormal TruncatedNormal
    ParameterizedTruncatedNormal RandomGamma RandomPoisson RandomPoissonV2
    RandomShuffle Multinomial StatelessRandomGetAlg
    CudnnRNN CudnnRNNV2 CudnnRNNV3
    """.split()
)
# Ops by which a model that is loaded gets the values of its files.
_LOADING = frozenset(
    """
    RestoreV2 Assign AssignVariableOp InitializeTable InitializeTableV2
    InitializeTableFromTextFile InitializeTableFromTextFileV2
    LookupTableImport LookupTableImportV2
    """.split()
)
# Ops that have no state, and yet read files or run Python.
_HARMFUL = {
    "GenerateVocabRemapping",
    "MatchingFiles",
    "PyFuncStateless",
    "ReadFile",
}


def unsafe_ops(graph: graph_pb2.GraphDef, outputs: Iterable[str]) -> list[str]:
    """The ops because of which a signature is not served.

    Args:
        graph: The model's.
        outputs: The names of the tensors that the signature gives.

    Returns:
        Their names, sorted; none if the signature only computes.
    """
    return sorted(_unsafe(graph, outputs))


def unsafe_loading_ops(model: meta_graph_pb2.MetaGraphDef) -> list[str]:
    """The ops because of which a model is not loaded.

    Args:
        model: What is in its file, of which nothing has run.

    Returns:
        Their names, sorted; none if loading it sets its variables and tables.
    """
    names = [model.saver_def.restore_op_name]
    for key in ("saved_model_main_op", "legacy_init_op"):
        names += model.collection_def[key].node_list.value
    initial = model.signature_def["__saved_model_init_op"].outputs.values()
    names += [info.name for info in initial]
    return sorted(_unsafe(model.graph_def, filter(None, names)) - _LOADING)


def missing_functions(graph: graph_pb2.GraphDef) -> list[str]:
    """The functions that a graph calls by name and has not.

    Args:
        graph: The model's.

    Returns:
        Their names, sorted; none if it is whole. An op of TensorFlow may take
        the place of a function.
    """
    bodies = (function.node_def for function in graph.library.function)
    nodes = itertools.chain(graph.node, *bodies)
    called = {name for node in nodes for name in _functions_in(node) if name}
    own = {function.signature.name for function in graph.library.function}
    missing = called - own
    return sorted(missing - {op.name for op in _definitions(missing)})


def _unsafe(graph: graph_pb2.GraphDef, outputs: Iterable[str]) -> set[str]:
    functions = {f.signature.name for f in graph.library.function}
    ops = _ops_of(graph, outputs) - functions
    return ops - {op.name for op in _definitions(ops) if _is_safe(op)}


def _definitions(ops: Iterable[str]) -> Iterable[op_def_pb2.OpDef]:
    """TensorFlow's own; of those that it does not know, none."""
    # What describes a graph describes its ops, so this is a graph of them all.
    graph = graph_pb2.GraphDef()
    for op in ops:
        graph.node.add(name=op, op=op)
    described = tf.compat.v1.train.export_meta_graph(
        graph_def=graph, graph=tf.Graph()
    )
    return described.meta_info_def.stripped_op_list.op


def _is_safe(op: op_def_pb2.OpDef) -> bool:
    if op.name in _HARMFUL or "Dataset" in op.name:
        return False
    if op.is_stateful:
        return op.name in _HARMLESS
    # Of TensorFlow 1's variables, those that write take a reference.
    return not any(argument.is_ref for argument in op.input_arg)


def _ops_of(graph: graph_pb2.GraphDef, outputs: Iterable[str]) -> set[str]:
    """The kinds of ops that tensors depend on, in functions too."""
    nodes = {node.name: node for node in graph.node}
    functions = {f.signature.name: f for f in graph.library.function}
    ops: set[str] = set()
    seen: set[str] = set()
    names = [_node_name(output) for output in outputs]
    bodies: list[str] = []
    while names or bodies:
        if names:
            found = [nodes[names.pop()]]
            new = {_node_name(i) for i in found[0].input} - seen
            seen |= new
            names += new
        else:
            found = functions[bodies.pop()].node_def
        for node in found:
            called = {node.op, *_functions_in(node)} & functions.keys()
            bodies += called - ops
            ops |= called | {node.op}
    return ops


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _functions_in(node: node_def_pb2.NodeDef) -> Iterable[str]:
    return itertools.chain.from_iterable(
        (value.func.name, *(func.name for func in value.list.func))
        for value in node.attr.values()
    )
