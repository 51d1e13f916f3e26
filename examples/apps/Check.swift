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

    let schema_version: Int
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

    let tile: Tile
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

    /// Raw numbers of the bundle. They are little-endian, as is every Apple device.
    func numbers<Number>(_ name: String, as _: Number.Type) throws -> [Number] {
        try read(name).withUnsafeBytes { Array($0.bindMemory(to: Number.self)) }
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

    var passed: Bool { rms <= allowed }

    var description: String {
        let difference = String(format: "logits differ by %.1e (root mean square), allowed %g", rms, allowed)
        let times = String(format: "%.5f of the labels agree; ready in %.0f ms, %.0f ms a tile", agreement, readyMs, tileMs)
        return "onnx/\(precision): \(difference)\n\(times): \(passed ? "passed" : "failed")"
    }
}

/// Runs the golden tile and compares.
func check(folder: URL, precision: String = "fp32") throws -> Report {
    let bundle = try EdgeBundle(folder: folder)
    let tile = try JSONDecoder().decode(Golden.self, from: bundle.read("golden/golden.json")).tile
    let entries = try JSONDecoder().decode([Parity].self, from: bundle.read("parity.json"))
    guard let parity = entries.first(where: { $0.target == "onnx" && $0.precision == precision }) else {
        throw Refused(description: "parity.json holds no onnx/\(precision)")
    }
    let stored = try bundle.numbers(tile.hu.file, as: Int16.self)
    let expected = try bundle.numbers(tile.logits.file, as: Float.self)
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
    return Report(
        precision: precision, rms: rms, allowed: parity.tolerance.logit_rms, agreement: agreement, readyMs: ready - started,
        tileMs: done - warm
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
