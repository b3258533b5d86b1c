// RLtools' own training loop of SAC on its Pendulum, with the sizes of the
// paper. Its configuration is that of its example, and its loop prints nothing
// that is needed here: `rltools.py` takes the time.

// clang-format off: the order matters.
#include <rl_tools/operations/cpu_mux.h>
#include <rl_tools/nn/optimizers/adam/instance/operations_generic.h>
#include <rl_tools/nn/operations_cpu_mux.h>
#include <rl_tools/nn/layers/sample_and_squash/operations_generic.h>
#include <rl_tools/rl/environments/pendulum/operations_cpu.h>
#include <rl_tools/nn_models/mlp/operations_generic.h>
#include <rl_tools/nn_models/sequential/operations_generic.h>
#include <rl_tools/nn_models/random_uniform/operations_generic.h>
#include <rl_tools/nn/optimizers/adam/operations_generic.h>
#include <rl_tools/rl/algorithms/sac/loop/core/config.h>
#include <rl_tools/rl/algorithms/sac/loop/core/operations_generic.h>
// clang-format on

namespace rlt = rl_tools;
namespace sac = rlt::rl::algorithms::sac;
namespace pendulum = rlt::rl::environments::pendulum;

using Device = rlt::devices::DEVICE_FACTORY<>;
using Rng = Device::SPEC::RANDOM::ENGINE<>;
using Index = Device::index_t;
using Types = rlt::numeric_types::Policy<float>;
using Environment = rlt::rl::environments::Pendulum<
    pendulum::Specification<float, Index, pendulum::DefaultParameters<float>>>;

// One update of all networks a step, from step 100 on, is its default.
struct Parameters
    : sac::loop::core::DefaultParameters<Types, Index, Environment> {
  struct SAC_PARAMETERS
      : sac::DefaultParameters<Types, Index, Environment::ACTION_DIM> {
    static constexpr Index ACTOR_BATCH_SIZE = 256;
    static constexpr Index CRITIC_BATCH_SIZE = 256;
  };
  static constexpr Index STEP_LIMIT = STEPS;
  static constexpr Index REPLAY_BUFFER_CAP = STEPS;
  static constexpr Index ACTOR_NUM_LAYERS = 3;
  static constexpr Index ACTOR_HIDDEN_DIM = 256;
  static constexpr Index CRITIC_NUM_LAYERS = 3;
  static constexpr Index CRITIC_HIDDEN_DIM = 256;
};
using Loop =
    sac::loop::core::Config<Types, Index, Rng, Environment, Parameters>;

int main() {
  Device device;
  Loop::State<Loop> state;
  rlt::malloc(device, state);
  rlt::init(device, state, 0);
  while (!rlt::step(device, state)) {
  }
  rlt::free(device, state);
}
