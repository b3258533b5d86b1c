// The replay buffer's ops: names, documentation, shapes. The kernels are in
// replay_kernels.cc.

#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfsac {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ScalarShape;
using tensorflow::shape_inference::ShapeHandle;

absl::Status HandleIsScalar(InferenceContext* c) {
  ShapeHandle unused;
  return c->WithRank(c->input(0), 0, &unused);
}

// The handle, then [n, O], [n, A], [n], [n, O], [n], [n], [n].
absl::Status InsertShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleIsScalar(c));
  DimensionHandle n = c->UnknownDim();
  constexpr int kRanks[] = {2, 2, 1, 2, 1, 1, 1};
  for (int field = 0; field < 7; ++field) {
    ShapeHandle shape;
    TF_RETURN_IF_ERROR(c->WithRank(c->input(1 + field), kRanks[field], &shape));
    TF_RETURN_IF_ERROR(c->Merge(n, c->Dim(shape, 0), &n));
  }
  DimensionHandle unused;
  return c->Merge(c->Dim(c->input(1), 1), c->Dim(c->input(4), 1), &unused);
}

absl::Status SampleShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleIsScalar(c));
  int64_t updates, batch_size, observation_size, action_size;
  TF_RETURN_IF_ERROR(c->GetAttr("updates", &updates));
  TF_RETURN_IF_ERROR(c->GetAttr("batch_size", &batch_size));
  TF_RETURN_IF_ERROR(c->GetAttr("observation_size", &observation_size));
  TF_RETURN_IF_ERROR(c->GetAttr("action_size", &action_size));
  const ShapeHandle scalars = c->MakeShape({updates, batch_size});
  const ShapeHandle observations =
      c->MakeShape({updates, batch_size, observation_size});
  c->set_output(0, observations);
  c->set_output(1, c->MakeShape({updates, batch_size, action_size}));
  c->set_output(2, scalars);
  c->set_output(3, observations);
  for (int output = 4; output < 7; ++output) c->set_output(output, scalars);
  return absl::OkStatus();
}

absl::Status CountShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleIsScalar(c));
  c->set_output(0, c->Scalar());
  c->set_output(1, c->Scalar());
  return absl::OkStatus();
}

absl::Status AddressShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleIsScalar(c));
  c->set_output(0, c->Scalar());
  return absl::OkStatus();
}

absl::Status FileShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleIsScalar(c));
  ShapeHandle unused;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 0, &unused));
  return c->WithRank(c->input(2), 0, &unused);
}

REGISTER_OP("Tfsac>ReplayCreate")
    .Attr("capacity: int >= 1")
    .Attr("observation_size: int >= 1")
    .Attr("action_size: int >= 1")
    .Attr("observation_dtype: {float, uint8} = DT_FLOAT")
    .Attr("seed: int = 0")
    .Output("handle: resource")
    .SetIsStateful()
    .SetShapeFn(ScalarShape)
    .Doc(R"doc(
Creates a replay buffer: a ring of the last `capacity` transitions.

The buffer lives as long as a tensor holds its handle. Memory is taken as the
buffer fills.

capacity: The number of transitions held.
observation_size: O, the length of an observation.
action_size: A, the length of an action.
observation_dtype: The type in which observations are given, stored and sampled.
seed: Key of the generator that sampling uses.
handle: Scalar. The new buffer.
)doc");

REGISTER_OP("Tfsac>ReplayInsert")
    .Input("handle: resource")
    .Input("observation: T")
    .Input("action: float")
    .Input("reward: float")
    .Input("next_observation: T")
    .Input("terminated: bool")
    .Input("truncated: bool")
    .Input("env_index: int32")
    .Attr("T: {float, uint8}")
    .SetIsStateful()
    .SetShapeFn(InsertShape)
    .Doc(R"doc(
Appends n >= 0 transitions in order; the oldest ones give way.

handle: Scalar. The buffer.
observation: [n, O].
action: [n, A].
reward: [n].
next_observation: [n, O].
terminated: [n]. Whether the MDP ended at the next observation.
truncated: [n]. Whether a time limit cut the episode there.
env_index: [n]. Which env the transition comes from.
T: The buffer's observation type.
)doc");

REGISTER_OP("Tfsac>ReplayAddress")
    .Input("handle: resource")
    .Output("address: int64")
    .SetIsStateful()
    .SetShapeFn(AddressShape)
    .Doc(R"doc(
Returns what the C function `tfsac_replay_insert` calls the buffer.

handle: Scalar. The buffer.
address: Scalar. It holds as long as a tensor holds the handle.
)doc");

REGISTER_OP("Tfsac>ReplaySample")
    .Input("handle: resource")
    .Attr("updates: int >= 1")
    .Attr("batch_size: int >= 1")
    .Attr("observation_size: int >= 1")
    .Attr("action_size: int >= 1")
    .Attr("T: {float, uint8}")
    .Output("observation: T")
    .Output("action: float")
    .Output("reward: float")
    .Output("next_observation: T")
    .Output("terminated: bool")
    .Output("truncated: bool")
    .Output("env_index: int32")
    .SetIsStateful()
    .SetShapeFn(SampleShape)
    .Doc(R"doc(
Draws K batches of B transitions, uniformly and with replacement.

What is drawn depends on the buffer's seed, on the number of draws before and on
the number of transitions held, and on nothing else. An empty buffer is an
InvalidArgument error.

handle: Scalar. The buffer.
updates: K.
batch_size: B.
observation_size: O, as the buffer has it: makes the output shapes static.
action_size: A, as the buffer has it.
T: The buffer's observation type.
observation: [K, B, O].
action: [K, B, A].
reward: [K, B].
next_observation: [K, B, O].
terminated: [K, B].
truncated: [K, B].
env_index: [K, B].
)doc");

REGISTER_OP("Tfsac>ReplayCount")
    .Input("handle: resource")
    .Output("size: int64")
    .Output("inserted: int64")
    .SetIsStateful()
    .SetShapeFn(CountShape)
    .Doc(R"doc(
Counts the transitions.

handle: Scalar. The buffer.
size: Scalar. The number of transitions held.
inserted: Scalar. The number of transitions ever inserted.
)doc");

REGISTER_OP("Tfsac>ReplaySave")
    .Input("handle: resource")
    .Input("directory: string")
    .Input("index: string")
    .SetIsStateful()
    .SetShapeFn(FileShape)
    .Doc(R"doc(
Writes transitions, counters and generator to a directory.

Transitions that an earlier save or restore of this buffer left in the directory
are not written again.

handle: Scalar. The buffer.
directory: Scalar. Made where it is missing.
index: Scalar. The save's name. An earlier save of that name is replaced at
  once, when the new one is complete. Saves of other names share its files.
)doc");

REGISTER_OP("Tfsac>ReplayRestore")
    .Input("handle: resource")
    .Input("directory: string")
    .Input("index: string")
    .SetIsStateful()
    .SetShapeFn(FileShape)
    .Doc(R"doc(
Replaces transitions, counters and generator by what ReplaySave wrote.

On any error (a missing file: NotFound; a damaged one: DataLoss; another layout
or capacity: InvalidArgument) the buffer is as it was.

handle: Scalar. The buffer, of the layout and capacity of the saved one.
directory: Scalar.
index: Scalar. The save's name.
)doc");

}  // namespace
}  // namespace tfsac
