// Does ONNX Runtime compute here what the bundle's model computed when it was exported?
//
//   g++ -std=c++17 -O2 check.cpp -I onnxruntime/include -L onnxruntime/lib -lonnxruntime -lcrypto -o check
//   ./check model.edge [fp32]
//
// Needs ONNX Runtime 1.23 or newer, nlohmann/json and OpenSSL, and a little-endian machine.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>
#include <openssl/evp.h>

using nlohmann::json;
using Bytes = std::vector<char>;
using Shape = std::vector<int64_t>;

static Bytes readFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

static std::string sha256(const Bytes& bytes) {
  std::array<unsigned char, 32> digest;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("SHA-256 is not available");
  std::string hex;
  for (unsigned char byte : digest) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", byte);
    hex += two;
  }
  return hex;
}

// A bundle folder; read() returns only bytes whose SHA-256 is the manifest's.
struct Bundle {
  std::string folder;
  json manifest;

  explicit Bundle(const std::string& path) : folder(path), manifest(json::parse(readFile(path + "/manifest.json"))) {
    if (manifest.at("schema_version") != 3) throw std::runtime_error("this program reads schema_version 3");
  }

  Bytes read(const std::string& name) const {
    Bytes bytes = readFile(folder + "/" + name);
    if (sha256(bytes) != manifest.at("files").at(name).get<std::string>())
      throw std::runtime_error(name + " was altered or damaged");
    return bytes;
  }

  template <typename T>
  std::vector<T> readNumbers(const json& described) const {
    const std::string name = described.at("file");
    const Bytes bytes = read(name);
    size_t count = 1;
    for (const json& side : described.at("shape")) count *= side.get<size_t>();
    if (bytes.size() != count * sizeof(T)) throw std::runtime_error(name + " has another size than its shape");
    std::vector<T> numbers(count);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(numbers.data()));
    return numbers;
  }
};

// The entry of a list (artifacts, parity.json) for onnx/<precision>.
static json findEntry(const json& entries, const std::string& precision) {
  for (const json& entry : entries)
    if (entry.at("target") == "onnx" && entry.at("precision") == precision) return entry;
  throw std::runtime_error("the bundle holds no onnx/" + precision);
}

static Ort::Session loadModel(const Ort::Env& env, const Bundle& bundle, const std::string& precision) {
  const json artifact = findEntry(bundle.manifest.at("artifacts"), precision);
  const Bytes model = bundle.read(artifact.at("path"));
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 4u)));
  options.SetInterOpNumThreads(1);
  options.AddConfigEntry("session.intra_op.allow_spinning", "0");  // waiting threads sleep: battery
  options.DisableMemPattern();                                     // a planned arena would be allocated beside the first
  return Ort::Session(env, model.data(), model.size(), options);
}

// Runs one tile: (D, H, W) HU -> (C, D, H, W) logits, written where the app wants them.
static void runTile(Ort::Session& session, std::vector<float>& hu, const Shape& tile, std::vector<float>& logits) {
  const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const int64_t classes = static_cast<int64_t>(logits.size() / hu.size());
  const std::array<int64_t, 5> in{1, 1, tile[0], tile[1], tile[2]}, out{1, classes, tile[0], tile[1], tile[2]};
  Ort::Value input = Ort::Value::CreateTensor<float>(memory, hu.data(), hu.size(), in.data(), in.size());
  Ort::Value output = Ort::Value::CreateTensor<float>(memory, logits.data(), logits.size(), out.data(), out.size());
  const char *inputs[] = {"image_hu"}, *outputs[] = {"logits"};
  session.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs, &output, 1);
}

struct Figures {
  double rms, agreement;
};

// `found` is (C, D, H, W); `expected` (C, d, h, w) is every stride-th voxel of what it should be.
static Figures compare(const std::vector<float>& found, const Shape& tile, const std::vector<float>& expected,
                       const Shape& shape, int64_t stride) {
  double squares = 0.0;
  int64_t agreeing = 0;
  const int64_t classes = shape[0], d = shape[1], h = shape[2], w = shape[3];
  for (int64_t z = 0; z < d; z++)
    for (int64_t y = 0; y < h; y++)
      for (int64_t x = 0; x < w; x++) {
        const auto here = [&](int64_t c) {
          return found[((c * tile[0] + z * stride) * tile[1] + y * stride) * tile[2] + x * stride];
        };
        const auto there = [&](int64_t c) { return expected[((c * d + z) * h + y) * w + x]; };
        int64_t label = 0, expectedLabel = 0;
        for (int64_t c = 0; c < classes; c++) {
          const double difference = static_cast<double>(here(c)) - there(c);
          squares += difference * difference;
          if (here(c) > here(label)) label = c;
          if (there(c) > there(expectedLabel)) expectedLabel = c;
        }
        agreeing += label == expectedLabel;
      }
  return {std::sqrt(squares / expected.size()), static_cast<double>(agreeing) / (d * h * w)};
}

// First tile of a scan on the model's grid: its first and last slice again beyond the ends, air beside it.
static std::vector<float> firstTile(const std::vector<int16_t>& hu, const Shape& scan, const Shape& tile, const json& input) {
  const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(tile[0] * (1.0 - input.at("overlap").get<double>())));
  const auto tiles = [&](int64_t rows) { return 1 + (std::max<int64_t>(0, rows - tile[0]) + step - 1) / step; };
  int64_t beyond = 0;  // as many slices as add no tile
  while (beyond < input.at("rows_beyond_ends") && tiles(scan[0] + 2 * (beyond + 1)) == tiles(scan[0])) beyond++;
  const auto before = [&](int axis, int64_t whole) { return (std::max(whole, tile[axis]) - scan[axis]) / 2; };
  const int64_t above = before(0, scan[0] + 2 * beyond), front = before(1, scan[1]), left = before(2, scan[2]);
  std::vector<float> found(tile[0] * tile[1] * tile[2], input.at("window_hu").at(0).get<float>());
  for (int64_t z = 0; z < tile[0]; z++) {
    const int64_t slice = std::clamp<int64_t>(z - above, 0, scan[0] - 1);
    for (int64_t y = 0; y < std::min(scan[1], tile[1]); y++)
      for (int64_t x = 0; x < std::min(scan[2], tile[2]); x++)
        found[(z * tile[1] + y + front) * tile[2] + x + left] = hu[(slice * scan[1] + y) * scan[2] + x];
  }
  return found;
}

// Labels (N) of probabilities (C, N): the class whose probability times its decision weight is the largest.
static std::vector<uint8_t> decide(const std::vector<float>& probabilities, const json& manifest) {
  std::vector<float> weights{1.0f};
  for (const json& label : manifest.at("labels"))
    weights.push_back(manifest.at("postprocess").at("decision_weights").value(label.at("name").get<std::string>(), 1.0f));
  const size_t voxels = probabilities.size() / weights.size();
  std::vector<uint8_t> labels(voxels, 0);
  for (size_t voxel = 0; voxel < voxels; voxel++)
    for (size_t c = 1; c < weights.size(); c++) {
      uint8_t& label = labels[voxel];
      if (weights[c] * probabilities[c * voxels + voxel] > weights[label] * probabilities[label * voxels + voxel])
        label = static_cast<uint8_t>(c);
    }
  return labels;
}

template <typename A, typename B>
static size_t countDiffering(const std::vector<A>& found, const std::vector<B>& expected) {
  if (found.size() != expected.size()) return std::max(found.size(), expected.size());
  size_t count = 0;
  for (size_t i = 0; i < found.size(); i++) count += std::abs(static_cast<double>(found[i]) - expected[i]) > 0.01;
  return count;
}

// Compares both rules with the golden arrays.
static bool checkRules(const Bundle& bundle, const json& golden) {
  const json &ends = golden.at("ends"), &decision = golden.at("decision");
  size_t values = 0;
  for (const std::string scan : {"short", "long"}) {
    const json& hu = ends.at(scan + "_hu");
    const auto tile = firstTile(bundle.readNumbers<int16_t>(hu), hu.at("shape"), ends.at("patch"), bundle.manifest.at("input"));
    values += countDiffering(tile, bundle.readNumbers<int16_t>(ends.at(scan + "_tile")));
  }
  const auto decided = decide(bundle.readNumbers<float>(decision.at("probabilities")), bundle.manifest);
  const size_t labels = countDiffering(decided, bundle.readNumbers<uint8_t>(decision.at("labels")));
  const bool weights = !bundle.manifest.at("postprocess").at("decision_weights").empty();
  std::printf("scan ends: %zu values differ; decision weights: %zu labels differ%s: ", values, labels,
              weights ? "" : " (no weights in this bundle)");
  return values + labels == 0;
}

static bool check(const std::string& folder, const std::string& precision) {
  const Bundle bundle(folder);
  const json golden = json::parse(bundle.read("golden/golden.json"));
  const json& tile = golden.at("tile");
  const double allowed = findEntry(json::parse(bundle.read("parity.json")), precision).at("tolerance").at("logit_rms");
  const std::vector<int16_t> stored = bundle.readNumbers<int16_t>(tile.at("hu"));
  const std::vector<float> expected = bundle.readNumbers<float>(tile.at("logits"));
  const Shape shape = tile.at("hu").at("shape"), expectedShape = tile.at("logits").at("shape");
  std::vector<float> hu(stored.begin(), stored.end()), logits(expectedShape[0] * hu.size());

  using Clock = std::chrono::steady_clock;
  const auto milliseconds = [](Clock::duration taken) { return std::chrono::duration<double, std::milli>(taken).count(); };
  const Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "check");
  const auto started = Clock::now();
  Ort::Session session = loadModel(env, bundle, precision);
  const auto ready = Clock::now();
  runTile(session, hu, shape, logits);  // the first tile also allocates
  const auto warm = Clock::now();
  runTile(session, hu, shape, logits);
  const auto done = Clock::now();

  const Figures seen = compare(logits, shape, expected, expectedShape, tile.at("stride"));
  std::printf("onnx/%s: logits differ by %.1e (root mean square), allowed %g\n", precision.c_str(), seen.rms, allowed);
  std::printf("%.5f of the labels agree; ready in %.0f ms, %.0f ms a tile\n", seen.agreement, milliseconds(ready - started),
              milliseconds(done - warm));
  const bool passed = checkRules(bundle, golden) && seen.rms <= allowed;
  std::printf("%s\n", passed ? "passed" : "failed");
  return passed;
}

int main(int count, char** arguments) try {
  if (count < 2) throw std::runtime_error("usage: check BUNDLE [PRECISION]");
  return check(arguments[1], count > 2 ? arguments[2] : "fp32") ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
