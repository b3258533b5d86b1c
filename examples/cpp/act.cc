// Acts with an exported policy, without Python: act MODEL [NUMBER...]
//
// MODEL is what `agent.export` wrote, the numbers are observations, row after
// row; without any they are read from standard input. Prints a line of actions
// for each row, for example for `act saved_models/pendulum/1 1.0 0.0 0.0`.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "saved_model.h"

namespace {

// Of any size: `std::stof` throws where a float holds a number less precisely.
float Number(const std::string& text) {
  char* end = nullptr;
  const float number = std::strtof(text.c_str(), &end);
  if (text.empty() || *end != '\0') {
    throw std::invalid_argument("Expected a number. Received: " + text);
  }
  return number;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr << "usage: act MODEL [NUMBER...]\n";
    return 2;
  }
  const SavedModel model(argv[1]);
  const auto size = model.InputShape("serving_default", "observations").at(1);

  std::vector<float> values;
  for (int i = 2; i < argc; ++i) values.push_back(Number(argv[i]));
  if (argc == 2) {
    std::string text;
    while (std::cin >> text) values.push_back(Number(text));
  }
  const std::int64_t rows = values.size() / size;
  tensorflow::Tensor observations(tensorflow::DT_FLOAT, {rows, size});
  std::copy_n(values.begin(), rows * size, observations.flat<float>().data());

  const auto outputs =
      model.Call("serving_default", {{"observations", observations}});
  const auto actions = outputs.at("actions").matrix<float>();
  std::cout.precision(9);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < actions.dimension(1); ++i) {
      std::cout << (i > 0 ? " " : "") << actions(row, i);
    }
    std::cout << "\n";
  }
  return EXIT_SUCCESS;
} catch (const std::exception& error) {
  std::cerr << "act: " << error.what() << "\n";
  return 2;
}
