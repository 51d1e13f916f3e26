// Does ExecuTorch compute on this device what the bundle's model computed when it was exported? iOS 17, macOS 12, or newer; macOS 14
// for executorch-coreml.
//
// Not compiled here, not run: parsed only (tree-sitter-swift 0.7.4); its calls were looked up in the headers of ExecuTorch 1.5.0.
//
//   .package(url: "https://github.com/pytorch/executorch.git", branch: "swiftpm-<version>"), products "executorch", "backend_xnnpack"
//   (for executorch-coreml "backend_coreml") and "kernels_optimized"; linker flag -all_load
//
// Add the bundle to the app as a folder reference and call this off the main thread; it gives the labels of the golden tile, (D, H, W):
//
//   try segmentTileExecuTorch(folder: Bundle.main.url(forResource: "model", withExtension: "edge")!)

import CryptoKit
import ExecuTorch
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

/// Runs one tile: (D, H, W) HU -> (C, D, H, W) logits, copied out of the module's memory, which its next run overwrites.
private func runTile(_ module: Module, hu: [Float], tile: [Int]) throws -> [Float] {
    try autoreleasepool {
        let output: Tensor<Float> = try module.forward(Tensor<Float>(hu, shape: [1, 1] + tile))
        return output.scalars()
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

func segmentTileExecuTorch(
    folder: URL, target: String = "executorch", precision: String = "fp32", units: String = "all"
) throws -> [UInt8] {
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

    _ = try read(artifact.path, folder, manifest) // refuses an altered file; the module takes a path, not bytes
    let module = Module(filePath: folder.appendingPathComponent(artifact.path).path, loadMode: .mmap)
    if target == "executorch-coreml" { // "cpu_only", "cpu_and_gpu", "cpu_and_ne" or "all", in place of what the file asks for
        try module.load(options: BackendOptionsMap(options: ["CoreMLBackend": [BackendOption("compute_unit", units)]]))
    }
    try module.load("forward") // else the first tile does it
    let logits = try runTile(module, hu: hu, tile: golden.hu.shape)

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
