// Does Core ML compute on this device what the bundle's model computed when it was exported? iOS 17, macOS 14, or newer.
//
// Not compiled here, not run: parsed only (tree-sitter-swift 0.7.4), and written from Apple's published declarations.
//
// Add the bundle to the app as a folder reference and call this from a task; it gives the labels of the golden tile, (D, H, W):
//
//   try await segmentTile(folder: Bundle.main.url(forResource: "model", withExtension: "edge")!, units: .cpuAndGPU)

import CoreML
import CryptoKit
import Foundation

private struct Refused: Swift.Error, CustomStringConvertible { let description: String }

// What is needed of the bundle's JSON files; the names are theirs.

private struct Manifest: Decodable {
    struct Artifact: Decodable { let target, precision, path: String }
    let schema_version: Int
    let artifacts: [Artifact]
    let files: [String: String]
}

private struct Parity: Decodable {
    struct Tolerance: Decodable { let logit_rms: Double }
    let target, precision: String
    let tolerance: Tolerance
}

private struct Golden: Decodable {
    struct Stored: Decodable { let file: String, shape: [Int] }
    struct Tile: Decodable { let hu, logits: Stored, stride: Int }
    let tile: Tile
}

/// A file of the bundle, if its SHA-256 is the manifest's.
private func read(_ name: String, _ folder: URL, _ manifest: Manifest) throws -> Data {
    let data = try Data(contentsOf: folder.appendingPathComponent(name), options: .mappedIfSafe)
    let hex = SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
    guard hex == manifest.files[name] else { throw Refused(description: "\(name) was altered or damaged") }
    return data
}

/// Runs one tile: (D, H, W) HU -> (C, D, H, W) logits in C order, whatever strides Core ML gave them.
private func runTile(_ model: MLModel, hu: [Float], tile: [Int]) throws -> [Float] {
    try autoreleasepool {
        let input = MLFeatureValue(shapedArray: MLShapedArray<Float>(scalars: hu, shape: [1, 1] + tile))
        let output = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: ["image_hu": input]))
        guard let logits = output.featureValue(for: "logits")?.shapedArrayValue(of: Float.self), logits.shape.count == 5 else {
            throw Refused(description: "the model gave no logits of float32 [1, C, D, H, W]")
        }
        var dense: [Float] = []
        dense.reserveCapacity(logits.scalarCount)
        logits.withUnsafeShapedBufferPointer { found, shape, strides in
            for c in 0..<shape[1] { for z in 0..<shape[2] { for y in 0..<shape[3] {
                let row = c * strides[1] + z * strides[2] + y * strides[3]
                for x in 0..<shape[4] { dense.append(found[row + x * strides[4]]) }
            } } }
        }
        return dense
    }
}

/// The largest class of each voxel. An app blends its tiles' probabilities first.
private func argmax(_ logits: [Float], classes: Int) -> [UInt8] {
    let voxels = logits.count / classes
    var labels = [UInt8](repeating: 0, count: voxels)
    for c in 1..<classes {
        for i in 0..<voxels where logits[c * voxels + i] > logits[Int(labels[i]) * voxels + i] { labels[i] = UInt8(c) }
    }
    return labels
}

func segmentTile(
    folder: URL, target: String = "coreml", precision: String = "fp16", units: MLComputeUnits = .all
) async throws -> [UInt8] {
    let manifest = try JSONDecoder().decode(Manifest.self, from: Data(contentsOf: folder.appendingPathComponent("manifest.json")))
    guard manifest.schema_version == 3 else { throw Refused(description: "this program reads schema_version 3") }
    let entries = try JSONDecoder().decode([Parity].self, from: read("parity.json", folder, manifest))
    guard let artifact = manifest.artifacts.first(where: { $0.target == target && $0.precision == precision }),
          let parity = entries.first(where: { $0.target == target && $0.precision == precision }) else {
        throw Refused(description: "the bundle holds no \(target)/\(precision)")
    }
    let golden = try JSONDecoder().decode(Golden.self, from: read("golden/golden.json", folder, manifest)).tile
    // Raw numbers of the bundle are little-endian, as is every Apple device.
    let hu = try read(golden.hu.file, folder, manifest).withUnsafeBytes { $0.bindMemory(to: Int16.self).map { Float($0) } }
    let expected = try read(golden.logits.file, folder, manifest).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }

    let parts = manifest.files.keys.filter { $0.hasPrefix(artifact.path + "/") }
    guard !parts.isEmpty else { throw Refused(description: "the manifest lists no file of \(artifact.path)") }
    for name in parts { _ = try read(name, folder, manifest) }
    let configuration = MLModelConfiguration()
    configuration.computeUnits = units
    // Compiled into a temporary folder: an app keeps the result, or lets Xcode compile the package.
    let compiled = try await MLModel.compileModel(at: folder.appendingPathComponent(artifact.path))
    let model = try await MLModel.load(contentsOf: compiled, configuration: configuration)
    let logits = try runTile(model, hu: hu, tile: golden.hu.shape)

    let (classes, d, h, w) = (golden.logits.shape[0], golden.logits.shape[1], golden.logits.shape[2], golden.logits.shape[3])
    let (height, width, stride) = (golden.hu.shape[1], golden.hu.shape[2], golden.stride)
    guard logits.count == classes * hu.count else { throw Refused(description: "the logits are of another shape") }
    let labels = argmax(logits, classes: classes), expectedLabels = argmax(expected, classes: classes)
    var squares = 0.0, agreeing = 0
    for z in 0..<d { for y in 0..<h { for x in 0..<w { // of the golden logits; they are every `stride`-th voxel
        let here = ((z * stride) * height + y * stride) * width + x * stride, there = (z * h + y) * w + x
        if labels[here] == expectedLabels[there] { agreeing += 1 }
        for c in 0..<classes {
            let difference = Double(logits[c * hu.count + here]) - Double(expected[c * d * h * w + there])
            squares += difference * difference
        }
    } } }
    let rms = (squares / Double(expected.count)).squareRoot(), allowed = parity.tolerance.logit_rms
    print(String(format: "\(target)/\(precision): logits differ by %.1e (root mean square), allowed %g", rms, allowed))
    print(String(format: "%.5f of the labels agree", Double(agreeing) / Double(d * h * w)))
    guard rms <= allowed else { throw Refused(description: "\(target)/\(precision) does not compute here what it computed at export") }
    return labels
}
