// Does ONNX Runtime compute on this device what the bundle's model computed when it was exported?
//
//   .package(url: "https://github.com/microsoft/onnxruntime-swift-package-manager", from: "1.24.1"), product "onnxruntime"
//
// With CocoaPods: pod 'onnxruntime-objc', '>= 1.23', and `import onnxruntime_objc` instead of OnnxRuntimeBindings.
// Add the bundle to the app as a folder reference and call this off the main thread:
//
//   print(try check(folder: Bundle.main.url(forResource: "model", withExtension: "edge")!))

import CryptoKit
import Foundation
import OnnxRuntimeBindings

struct Refused: Error, CustomStringConvertible {
    let description: String
}

// What is needed of the bundle's JSON files; the names are theirs.

struct Manifest: Decodable {
    struct Artifact: Decodable {
        let target: String
        let precision: String
        let path: String
    }

    struct Input: Decodable {
        let overlap: Double
        let rows_beyond_ends: Int
        let window_hu: [Float]
    }

    struct Label: Decodable {
        let name: String
    }

    struct Postprocess: Decodable {
        let decision_weights: [String: Float]
    }

    let schema_version: Int
    let input: Input
    let labels: [Label]
    let postprocess: Postprocess
    let artifacts: [Artifact]
    let files: [String: String]
}

struct Parity: Decodable {
    struct Tolerance: Decodable {
        let logit_rms: Double
    }

    let target: String
    let precision: String
    let tolerance: Tolerance
}

struct Golden: Decodable {
    struct Stored: Decodable {
        let file: String
        let shape: [Int]
    }

    struct Tile: Decodable {
        let hu: Stored
        let logits: Stored
        let stride: Int
    }

    struct Ends: Decodable {
        let patch: [Int]
        let short_hu: Stored
        let short_tile: Stored
        let long_hu: Stored
        let long_tile: Stored
    }

    struct Decision: Decodable {
        let probabilities: Stored
        let labels: Stored
    }

    let tile: Tile
    let ends: Ends
    let decision: Decision
}

/// A bundle folder; `read` returns only bytes whose SHA-256 is the manifest's.
struct EdgeBundle {
    let folder: URL
    let manifest: Manifest

    init(folder: URL) throws {
        self.folder = folder
        manifest = try JSONDecoder().decode(Manifest.self, from: Data(contentsOf: folder.appendingPathComponent("manifest.json")))
        guard manifest.schema_version == 3 else { throw Refused(description: "this program reads schema_version 3") }
    }

    func url(_ name: String) -> URL {
        folder.appendingPathComponent(name)
    }

    func read(_ name: String) throws -> Data {
        let data = try Data(contentsOf: url(name), options: .mappedIfSafe)
        let hex = SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
        guard hex == manifest.files[name] else { throw Refused(description: "\(name) was altered or damaged") }
        return data
    }

    /// The numbers of a golden array. They are little-endian, as is every Apple device.
    func numbers<Number>(_ stored: Golden.Stored, as _: Number.Type) throws -> [Number] {
        let data = try read(stored.file)
        guard data.count == stored.shape.reduce(MemoryLayout<Number>.size, *) else {
            throw Refused(description: "\(stored.file) has another size than its shape")
        }
        return data.withUnsafeBytes { Array($0.bindMemory(to: Number.self)) }
    }
}

func loadModel(_ environment: ORTEnv, _ bundle: EdgeBundle, precision: String) throws -> ORTSession {
    guard let artifact = bundle.manifest.artifacts.first(where: { $0.target == "onnx" && $0.precision == precision }) else {
        throw Refused(description: "the bundle holds no onnx/\(precision)")
    }
    _ = try bundle.read(artifact.path) // refuses an altered file; the session takes a path, not bytes
    let options = try ORTSessionOptions()
    let threads = max(1, min(4, ProcessInfo.processInfo.activeProcessorCount / 2)) // about the fast cores
    try options.setIntraOpNumThreads(Int32(threads))
    try options.addConfigEntry(withKey: "session.intra_op.allow_spinning", value: "0") // waiting threads sleep: battery
    // A planned arena would be allocated beside the first. Read from ONNX Runtime 1.28 on; older ones take no notice.
    try options.addConfigEntry(withKey: "session.enable_mem_pattern", value: "0")
    return try ORTSession(env: environment, modelPath: bundle.url(artifact.path).path, sessionOptions: options)
}

/// Runs one tile: (D, H, W) HU as float -> (C, D, H, W) logits, written where the app wants them.
func runTile(_ session: ORTSession, hu: NSMutableData, tile: [Int], logits: NSMutableData) throws {
    try autoreleasepool {
        let classes = logits.length / hu.length
        let input = try ORTValue(tensorData: hu, elementType: .float, shape: ([1, 1] + tile).map { NSNumber(value: $0) })
        let output = try ORTValue(tensorData: logits, elementType: .float, shape: ([1, classes] + tile).map { NSNumber(value: $0) })
        try session.run(withInputs: ["image_hu": input], outputs: ["logits": output], runOptions: nil)
    }
}

struct Report: CustomStringConvertible {
    let precision: String
    let rms: Double
    let allowed: Double
    let agreement: Double
    let readyMs: Double
    let tileMs: Double
    let wrongHu: Int
    let wrongLabels: Int
    let weights: Int

    var passed: Bool { rms <= allowed && wrongHu + wrongLabels == 0 }

    var description: String {
        let difference = String(format: "logits differ by %.1e (root mean square), allowed %g", rms, allowed)
        let times = String(format: "%.5f of the labels agree; ready in %.0f ms, %.0f ms a tile", agreement, readyMs, tileMs)
        let rules = "scan ends: \(wrongHu) values differ; decision weights: \(wrongLabels) labels differ"
        let none = weights > 0 ? "" : " (no weights in this bundle)"
        return "onnx/\(precision): \(difference)\n\(times)\n\(rules)\(none): \(passed ? "passed" : "failed")"
    }
}

/// First tile of a scan on the model's grid: its first and last slice again beyond the ends, air beside it.
func firstTile(_ hu: [Int16], _ scan: [Int], tile: [Int], _ input: Manifest.Input) -> [Float] {
    let step = max(1, Int(Double(tile[0]) * (1 - input.overlap)))
    func tiles(_ rows: Int) -> Int { 1 + (max(0, rows - tile[0]) + step - 1) / step }
    var beyond = 0 // as many slices as add no tile
    while beyond < input.rows_beyond_ends && tiles(scan[0] + 2 * (beyond + 1)) == tiles(scan[0]) { beyond += 1 }
    let whole = [scan[0] + 2 * beyond, scan[1], scan[2]]
    let before = (0..<3).map { (max(whole[$0], tile[$0]) - scan[$0]) / 2 }
    var found = [Float](repeating: input.window_hu[0], count: tile[0] * tile[1] * tile[2])
    for z in 0..<tile[0] {
        let slice = min(max(z - before[0], 0), scan[0] - 1)
        for y in 0..<min(scan[1], tile[1]) {
            for x in 0..<min(scan[2], tile[2]) {
                found[(z * tile[1] + y + before[1]) * tile[2] + x + before[2]] = Float(hu[(slice * scan[1] + y) * scan[2] + x])
            }
        }
    }
    return found
}

/// Labels (N) of probabilities (C, N): the class whose probability times its decision weight is the largest.
func decide(_ probabilities: [Float], _ manifest: Manifest) -> [UInt8] {
    let weights = [Float(1)] + manifest.labels.map { manifest.postprocess.decision_weights[$0.name] ?? 1 }
    let voxels = probabilities.count / weights.count
    return (0..<voxels).map { voxel in
        let weighted = weights.indices.map { weights[$0] * probabilities[$0 * voxels + voxel] }
        return UInt8(weighted.firstIndex(of: weighted.max()!)!)
    }
}

/// Compares both rules with the golden arrays: how many values and labels differ.
func checkRules(_ bundle: EdgeBundle, _ golden: Golden) throws -> (Int, Int) {
    var wrongHu = 0
    for (scan, expected) in [(golden.ends.short_hu, golden.ends.short_tile), (golden.ends.long_hu, golden.ends.long_tile)] {
        let hu = try bundle.numbers(scan, as: Int16.self)
        let tile = firstTile(hu, scan.shape, tile: golden.ends.patch, bundle.manifest.input)
        let numbers = try bundle.numbers(expected, as: Int16.self)
        let right = zip(tile, numbers).filter { abs($0 - Float($1)) <= 0.01 }
        wrongHu += max(tile.count, numbers.count) - right.count
    }
    let labels = decide(try bundle.numbers(golden.decision.probabilities, as: Float.self), bundle.manifest)
    let expected = try bundle.numbers(golden.decision.labels, as: UInt8.self)
    return (wrongHu, max(labels.count, expected.count) - zip(labels, expected).filter { $0 == $1 }.count)
}

/// Runs the golden tile and both rules, and compares.
func check(folder: URL, precision: String = "fp32") throws -> Report {
    let bundle = try EdgeBundle(folder: folder)
    let golden = try JSONDecoder().decode(Golden.self, from: bundle.read("golden/golden.json"))
    let tile = golden.tile
    let entries = try JSONDecoder().decode([Parity].self, from: bundle.read("parity.json"))
    guard let parity = entries.first(where: { $0.target == "onnx" && $0.precision == precision }) else {
        throw Refused(description: "parity.json holds no onnx/\(precision)")
    }
    let stored = try bundle.numbers(tile.hu, as: Int16.self)
    let expected = try bundle.numbers(tile.logits, as: Float.self)
    let voxels = stored.map { Float($0) }
    let hu = NSMutableData(bytes: voxels, length: MemoryLayout<Float>.size * voxels.count)
    guard let logits = NSMutableData(length: hu.length * tile.logits.shape[0]) else {
        throw Refused(description: "there is no memory for the logits")
    }

    let clock = { ProcessInfo.processInfo.systemUptime * 1000 }
    let environment = try ORTEnv(loggingLevel: .error)
    let started = clock()
    let session = try loadModel(environment, bundle, precision: precision)
    let ready = clock()
    try runTile(session, hu: hu, tile: tile.hu.shape, logits: logits) // the first tile also allocates
    let warm = clock()
    try runTile(session, hu: hu, tile: tile.hu.shape, logits: logits)
    let done = clock()

    let (rms, agreement) = compare(logits, tile.hu.shape, expected, tile.logits.shape, stride: tile.stride)
    let (wrongHu, wrongLabels) = try checkRules(bundle, golden)
    return Report(
        precision: precision, rms: rms, allowed: parity.tolerance.logit_rms, agreement: agreement, readyMs: ready - started,
        tileMs: done - warm, wrongHu: wrongHu, wrongLabels: wrongLabels,
        weights: bundle.manifest.postprocess.decision_weights.count
    )
}

/// `logits` is (C, D, H, W); `expected` (C, d, h, w) is every `stride`-th voxel of what it should be. Root mean square, agreement.
func compare(_ logits: NSMutableData, _ tile: [Int], _ expected: [Float], _ shape: [Int], stride: Int) -> (Double, Double) {
    let (classes, d, h, w) = (shape[0], shape[1], shape[2], shape[3])
    let (depth, height, width) = (tile[0], tile[1], tile[2])
    var squares = 0.0
    var agreeing = 0
    withExtendedLifetime(logits) {
        let found = logits.bytes.assumingMemoryBound(to: Float.self)
        for z in 0..<d {
            for y in 0..<h {
                for x in 0..<w {
                    func here(_ c: Int) -> Float { found[((c * depth + z * stride) * height + y * stride) * width + x * stride] }
                    func there(_ c: Int) -> Float { expected[((c * d + z) * h + y) * w + x] }
                    var label = 0
                    var expectedLabel = 0
                    for c in 0..<classes {
                        let difference = Double(here(c)) - Double(there(c))
                        squares += difference * difference
                        if here(c) > here(label) { label = c }
                        if there(c) > there(expectedLabel) { expectedLabel = c }
                    }
                    if label == expectedLabel { agreeing += 1 }
                }
            }
        }
    }
    return ((squares / Double(expected.count)).squareRoot(), Double(agreeing) / Double(d * h * w))
}
