// Tests of the dense layers' core against sums in double precision, for every
// instruction set that this CPU has; README.md says how to run them.

#include "mlp.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "expect.h"
#include "parallel.h"
#include "simd.h"

namespace tfsac {
namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

// A sum, and what it would be if no terms cancelled: the scale of its rounding.
struct Sum {
  void operator+=(double term) {
    value += term;
    magnitude += std::abs(term);
  }
  double value = 0, magnitude = 0;
};
using Sums = std::vector<Sum>;

// Networks of random weights with an input, what they return and the gradients
// that an output gradient asks for, which live in arrays of exact sizes so
// that the sanitizers see each access beyond them.
struct Problem {
  Problem(Activation activation, int64_t members, int64_t batch,
          std::vector<int64_t> input_widths, std::vector<int64_t> widths,
          unsigned seed)
      : generator(seed) {
    mlp.activation = activation;
    mlp.members = members;
    mlp.batch = batch;
    int64_t in = 0;
    for (const int64_t width : input_widths) {
      inputs.push_back(Random(batch * width, 1.0));
      in += width;
    }
    for (const int64_t width : widths) {
      kernels.push_back(Random(members * in * width, 1 / std::sqrt(in)));
      biases.push_back(Random(members * width, 0.1));
      outputs.emplace_back(members * batch * width);
      in = width;
    }
    output_gradient = Random(members * batch * in, 1.0);
    for (size_t i = 0; i < input_widths.size(); ++i) {
      mlp.inputs.push_back({inputs[i].data(), input_widths[i]});
    }
    for (size_t i = 0; i < widths.size(); ++i) {
      mlp.layers.push_back({kernels[i].data(), biases[i].data(), widths[i]});
    }
  }

  Floats Random(int64_t size, double scale) {
    std::normal_distribution<double> normal(0.0, scale);
    Floats values(size);
    for (float& value : values) value = normal(generator);
    return values;
  }

  void Forward(const Workers& workers, const Simd& simd) {
    std::vector<float*> to;
    for (Floats& output : outputs) to.push_back(output.data());
    MlpForward(mlp, to, workers, simd);
  }

  void Backward(bool weights, const std::vector<bool>& wants_input,
                const Workers& workers, const Simd& simd) {
    MlpGradients gradients;
    input_gradients.clear();
    for (size_t i = 0; i < inputs.size(); ++i) {
      input_gradients.emplace_back(wants_input[i] ? inputs[i].size() : 0, NAN);
      gradients.inputs.push_back(wants_input[i] ? input_gradients.back().data()
                                                : nullptr);
    }
    kernel_gradients.clear();
    bias_gradients.clear();
    for (size_t i = 0; weights && i < kernels.size(); ++i) {
      kernel_gradients.emplace_back(kernels[i].size(), NAN);
      bias_gradients.emplace_back(biases[i].size(), NAN);
    }
    for (size_t i = 0; weights && i < kernels.size(); ++i) {
      gradients.kernels.push_back(kernel_gradients[i].data());
      gradients.biases.push_back(bias_gradients[i].data());
    }
    std::vector<const float*> hidden;
    for (const Floats& output : outputs) hidden.push_back(output.data());
    hidden.pop_back();
    MlpBackward(mlp, hidden, output_gradient.data(), gradients, workers, simd);
  }

  std::mt19937 generator;
  Mlp mlp;
  std::vector<Floats> inputs, kernels, biases, outputs;
  std::vector<Floats> input_gradients, kernel_gradients, bias_gradients;
  Floats output_gradient;
};

// The same from the definitions, one number after the other.
struct Reference {
  explicit Reference(const Problem& p) {
    const Mlp& mlp = p.mlp;
    for (const Floats& input : p.inputs) {
      input_gradients.emplace_back(input.size());
    }
    for (size_t i = 0; i < p.kernels.size(); ++i) {
      outputs.emplace_back(p.outputs[i].size());
      kernel_gradients.emplace_back(p.kernels[i].size());
      bias_gradients.emplace_back(p.biases[i].size());
    }
    for (int64_t member = 0; member < mlp.members; ++member) {
      for (int64_t row = 0; row < mlp.batch; ++row) Add(p, member, row);
    }
  }

  void Add(const Problem& p, int64_t member, int64_t row) {
    const Mlp& mlp = p.mlp;
    const size_t last = mlp.layers.size() - 1;
    std::vector<Doubles> h(1);
    for (const Mlp::Input& input : mlp.inputs) {
      const float* values = input.rows + row * input.width;
      h[0].insert(h[0].end(), values, values + input.width);
    }
    for (size_t i = 0; i <= last; ++i) {
      const int64_t width = mlp.layers[i].width, in = h[i].size();
      h.emplace_back(width);
      for (int64_t j = 0; j < width; ++j) {
        Sum sum;
        sum += mlp.layers[i].bias[member * width + j];
        for (int64_t k = 0; k < in; ++k) {
          sum += h[i][k] * mlp.layers[i].kernel[(member * in + k) * width + j];
        }
        if (i < last) {
          sum.value = mlp.activation == Activation::kRelu
                          ? std::max(sum.value, 0.0)
                          : std::tanh(sum.value);
        }
        h[i + 1][j] = sum.value;
        outputs[i][(member * mlp.batch + row) * width + j] = sum;
      }
    }
    const float* gradient =
        p.output_gradient.data() + (member * mlp.batch + row) * h.back().size();
    Doubles delta(gradient, gradient + h.back().size());
    for (size_t i = last + 1; i-- > 0;) {
      const int64_t width = mlp.layers[i].width, in = h[i].size();
      Doubles before(in);
      for (int64_t j = 0; j < width; ++j) {
        bias_gradients[i][member * width + j] += delta[j];
        for (int64_t k = 0; k < in; ++k) {
          const int64_t at = (member * in + k) * width + j;
          kernel_gradients[i][at] += h[i][k] * delta[j];
          before[k] += delta[j] * mlp.layers[i].kernel[at];
        }
      }
      for (int64_t k = 0; i > 0 && k < in; ++k) {
        before[k] *= mlp.activation == Activation::kTanh ? 1 - h[i][k] * h[i][k]
                                                         : h[i][k] > 0;
      }
      delta = before;
    }
    size_t k = 0;
    for (size_t i = 0; i < mlp.inputs.size(); ++i) {
      const int64_t width = mlp.inputs[i].width;
      for (int64_t j = 0; j < width; ++j, ++k) {
        input_gradients[i][row * width + j] += delta[k];
      }
    }
  }

  std::vector<Sums> outputs, input_gradients, kernel_gradients, bias_gradients;
};

// The largest difference, relative to the largest magnitude.
double Error(const Floats& values, const Sums& expected) {
  EXPECT(values.size() == expected.size());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT(std::isfinite(values[i]));
    largest = std::max(largest, expected[i].magnitude);
    difference = std::max(difference, std::abs(values[i] - expected[i].value));
  }
  return largest > 0 ? difference / largest : difference;
}

// The layers' deltas pass a ReLU that rounding may close or open near zero;
// such a row is rare, and removed from what the gradients are compared on.
void SilenceRowsNearZero(Problem* p) {
  const Reference reference(*p);
  for (size_t i = 0; i + 1 < p->outputs.size(); ++i) {
    const int64_t width = p->mlp.layers[i].width;
    for (size_t at = 0; at < p->outputs[i].size(); ++at) {
      const bool is_open = p->outputs[i][at] > 0;
      if (is_open == (reference.outputs[i][at].value > 0)) continue;
      const int64_t outputs = p->mlp.layers.back().width;
      std::fill_n(p->output_gradient.begin() + at / width * outputs, outputs,
                  0.0f);
    }
  }
}

class Threads {
 public:
  explicit Threads(int count) : count_(count) {}
  ~Threads() {
    for (std::thread& thread : threads_) thread.join();
  }
  Workers workers() {
    return {count_, [this](std::function<void()> work) {
              threads_.emplace_back(std::move(work));
            }};
  }

 private:
  const int count_;
  std::vector<std::thread> threads_;
};

void CheckAgainstReference(Problem* p, const Simd& simd) {
  constexpr double kTolerance = 1e-5;
  p->Forward(Workers{}, simd);
  if (p->mlp.activation == Activation::kRelu) SilenceRowsNearZero(p);
  const Reference expected(*p);
  for (size_t i = 0; i < p->outputs.size(); ++i) {
    EXPECT(Error(p->outputs[i], expected.outputs[i]) < kTolerance);
  }
  for (const bool weights : {true, false}) {
    for (size_t wanted = 0; wanted < 1u << p->inputs.size(); ++wanted) {
      std::vector<bool> wants_input;
      for (size_t i = 0; i < p->inputs.size(); ++i) {
        wants_input.push_back(wanted >> i & 1);
      }
      p->Backward(weights, wants_input, Workers{}, simd);
      for (size_t i = 0; i < p->inputs.size(); ++i) {
        if (!wants_input[i]) continue;
        EXPECT(Error(p->input_gradients[i], expected.input_gradients[i]) <
               kTolerance);
      }
      for (size_t i = 0; weights && i < p->kernels.size(); ++i) {
        EXPECT(Error(p->kernel_gradients[i], expected.kernel_gradients[i]) <
               kTolerance);
        EXPECT(Error(p->bias_gradients[i], expected.bias_gradients[i]) <
               kTolerance);
      }
    }
  }
}

void TestAgreesWithReference(const Simd& simd) {
  std::mt19937 generator(0);
  const auto draw = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
  };
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::vector<int64_t> inputs, widths;
    for (int64_t i = draw(1, 3); i > 0; --i) inputs.push_back(draw(1, 40));
    for (int64_t i = draw(0, 3); i > 0; --i) widths.push_back(draw(1, 80));
    widths.push_back(draw(0, 1) ? 1 : draw(1, 40));
    Problem problem(draw(0, 1) ? Activation::kRelu : Activation::kTanh,
                    draw(1, 3), draw(1, 200), inputs, widths, seed);
    CheckAgainstReference(&problem, simd);
  }
}

void TestAgreesWithReferenceAtUsualSizes(const Simd& simd) {
  Problem critic(Activation::kRelu, 2, 256, {17, 6}, {256, 256, 1}, 0);
  CheckAgainstReference(&critic, simd);
  Problem actor(Activation::kRelu, 1, 100, {17}, {256, 256, 12}, 1);
  CheckAgainstReference(&actor, simd);
  Problem wide(Activation::kTanh, 1, 3, {600}, {555, 7}, 2);
  CheckAgainstReference(&wide, simd);
  // Where the kernels are copied side by side, and sums cut into blocks.
  Problem wider(Activation::kRelu, 1, 9, {300}, {1025, 800}, 3);
  CheckAgainstReference(&wider, simd);
  Problem deep(Activation::kTanh, 1, 550, {3}, {70, 2}, 4);
  CheckAgainstReference(&deep, simd);
  // Where one environment acts; columns beyond the widest tile are left over.
  Problem row(Activation::kTanh, 2, 1, {300, 6}, {301, 70, 1}, 6);
  CheckAgainstReference(&row, simd);
}

void TestSkipsRowsWithoutGradient(const Simd& simd) {
  Problem p(Activation::kTanh, 2, 130, {5, 3}, {33, 20, 1}, 3);
  p.Forward(Workers{}, simd);
  for (int64_t row = 0; row < 130; ++row) {  // of the one member or the other
    p.output_gradient[row % 3 == 0 ? row : 130 + row] = 0;
  }
  std::fill_n(p.output_gradient.begin(), 64, 0.0f);  // a whole shard
  CheckAgainstReference(&p, simd);
}

void TestDoesNotDependOnThreads(const Simd& simd) {
  Problem p(Activation::kRelu, 2, 300, {17, 6}, {256, 100, 1}, 4);
  p.Forward(Workers{}, simd);
  p.Backward(true, {true, true}, Workers{}, simd);
  const Problem serial = p;
  for (int repeat = 0; repeat < 20; ++repeat) {
    for (Floats& output : p.outputs) std::fill(output.begin(), output.end(), 0);
    Threads threads(2 + repeat % 3);
    p.Forward(threads.workers(), simd);
    p.Backward(true, {true, true}, threads.workers(), simd);
    EXPECT(p.outputs == serial.outputs);
    EXPECT(p.input_gradients == serial.input_gradients);
    EXPECT(p.kernel_gradients == serial.kernel_gradients);
    EXPECT(p.bias_gradients == serial.bias_gradients);
  }
}

void TestPassesNanOn(const Simd& simd) {
  Problem p(Activation::kRelu, 1, 3, {4}, {20, 20, 1}, 5);
  p.inputs[0][4] = NAN;  // in the row 1
  p.Forward(Workers{}, simd);
  EXPECT(std::isfinite(p.outputs[2][0]));
  EXPECT(std::isnan(p.outputs[2][1]));
  EXPECT(std::isfinite(p.outputs[2][2]));
}

void TestTanhIsExactAtItsEnds(const Simd& simd) {
  const std::vector<float> x = {-100, -7.9f, -1e-6f, 0, 1e-6f, 1, 7.9f, 1e30f};
  const float zero = 0, one = 1;
  std::vector<float> y(x.size());
  Product product{};
  product.rows = x.size();
  product.columns = product.depth = 1;
  product.a = x.data();
  product.a_stride = product.a_step = product.c_stride = product.b_stride = 1;
  product.b = &one;
  product.c = y.data();
  product.start = Start::kBias;
  product.bias = &zero;
  product.finish = Finish::kTanh;
  simd.multiply(product);
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = std::tanh(static_cast<double>(x[i]));
    EXPECT(std::abs(y[i] - expected) <= 5e-7 * std::abs(expected));
    EXPECT(std::abs(y[i]) <= 1);
  }
}

// Helpers that come late, after the end or never must do no harm.
void TestPhasesRunInOrder() {
  for (int repeat = 0; repeat < 200; ++repeat) {
    Threads threads(3);
    std::vector<std::function<void()>> late;
    Workers workers = threads.workers();
    const auto schedule = workers.schedule;
    int scheduled = 0;
    workers.schedule = [&](std::function<void()> work) {
      if (++scheduled % 3 == 0) return late.push_back(std::move(work));
      schedule(std::move(work));
    };
    std::vector<std::atomic<int>> runs(7 + 1 + 0 + 30);
    const auto mark = [&runs](int64_t first, int64_t before) {
      return [&runs, first, before](int64_t shard) {
        for (int64_t i = 0; i < before; ++i) EXPECT(runs[i] == 1);
        ++runs[first + shard];
      };
    };
    RunPhases(
        workers,
        {{7, mark(0, 0)}, {1, mark(7, 7)}, {0, mark(8, 8)}, {30, mark(8, 8)}});
    for (const auto& count : runs) EXPECT(count == 1);
    for (const auto& work : late) work();
  }
}

void TestSimdIsChosen() {
  EXPECT(BestSimd().is_supported());
  EXPECT(AllSimd().back()->is_supported());
}

}  // namespace
}  // namespace tfsac

int main() {
  using namespace tfsac;
  TestSimdIsChosen();
  TestPhasesRunInOrder();
  for (const Simd* simd : AllSimd()) {
    if (!simd->is_supported()) {
      std::printf("%s: not supported by this CPU, so not tested\n", simd->name);
      continue;
    }
    TestAgreesWithReference(*simd);
    TestAgreesWithReferenceAtUsualSizes(*simd);
    TestSkipsRowsWithoutGradient(*simd);
    TestDoesNotDependOnThreads(*simd);
    TestPassesNanOn(*simd);
    TestTanhIsExactAtItsEnds(*simd);
    std::printf("%s: passed\n", simd->name);
  }
}
