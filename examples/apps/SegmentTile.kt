// Does ExecuTorch compute on this device what the bundle's model computed when it was exported?
//
// Not run with ExecuTorch, not on a phone. Compiled here by Kotlin 2.4.0-dev-6891 against the Kotlin sources of ExecuTorch 1.5.0, and
// run on a desktop JVM 17 with a stand-in for Module that runs the ONNX file of the bundle.
//
//   implementation("org.pytorch:executorch-android:<version>")   not older than what exported the bundle: 1.5 or newer
//
// `folder` is a bundle that the app can read as files, such as File(filesDir, "model.edge"). Call `segmentTile` off the main thread; it
// gives the labels of the golden tile, (D, H, W).

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.security.MessageDigest
import java.util.Locale
import kotlin.math.sqrt
import org.json.JSONArray
import org.json.JSONObject
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/** A bundle folder; [file] and [read] give only what has the manifest's SHA-256. */
private class Bundle(private val folder: File) {
    val manifest = JSONObject(File(folder, "manifest.json").readText())

    init {
        require(manifest.getInt("schema_version") == 3) { "this program reads schema_version 3" }
    }

    fun file(name: String): File {
        val file = File(folder, name)
        val digest = MessageDigest.getInstance("SHA-256").digest(file.readBytes())
        val hex = digest.joinToString("") { byte -> "%02x".format(byte) }
        check(hex == manifest.getJSONObject("files").getString(name)) { "$name was altered or damaged" }
        return file
    }

    /** Raw numbers of the bundle are little-endian; a ByteBuffer is big-endian unless told. */
    fun read(name: String): ByteBuffer = ByteBuffer.wrap(file(name).readBytes()).order(ByteOrder.LITTLE_ENDIAN)
}

/** The entry of a list (artifacts, parity.json) for executorch/<precision>. */
private fun findEntry(entries: JSONArray, precision: String): JSONObject =
    (0 until entries.length()).map { entries.getJSONObject(it) }
        .firstOrNull { it.getString("target") == "executorch" && it.getString("precision") == precision }
        ?: error("the bundle holds no executorch/$precision")

private fun shapeOf(described: JSONObject): LongArray {
    val sides = described.getJSONArray("shape")
    return LongArray(sides.length()) { sides.getLong(it) }
}

/** Runs one tile: (D, H, W) HU -> (C, D, H, W) logits. Both are direct buffers; the module's own memory is overwritten by its next run. */
private fun runTile(module: Module, hu: FloatBuffer, tile: LongArray, logits: FloatBuffer) {
    val input = Tensor.fromBlob(hu, longArrayOf(1, 1, tile[0], tile[1], tile[2]))
    val output = module.forward(EValue.from(input))[0].toTensor()
    logits.rewind()
    output.copyDataInto(logits)
}

/** The largest class of each voxel. An app blends its tiles' probabilities first. */
private fun argmax(logits: FloatBuffer, classes: Int): ByteArray {
    val voxels = logits.capacity() / classes
    val labels = ByteArray(voxels)
    for (c in 1 until classes) for (i in 0 until voxels) {
        if (logits.get(c * voxels + i) > logits.get(labels[i] * voxels + i)) labels[i] = c.toByte()
    }
    return labels
}

fun segmentTile(folder: File, precision: String = "fp32"): ByteArray {
    val bundle = Bundle(folder)
    val artifact = bundle.file(findEntry(bundle.manifest.getJSONArray("artifacts"), precision).getString("path"))
    val parity = findEntry(JSONArray(bundle.file("parity.json").readText()), precision)
    val golden = JSONObject(bundle.file("golden/golden.json").readText()).getJSONObject("tile")
    val tile = shapeOf(golden.getJSONObject("hu"))
    val (classes, d, h, w) = shapeOf(golden.getJSONObject("logits")).map { it.toInt() }
    val stored = bundle.read(golden.getJSONObject("hu").getString("file")).asShortBuffer()
    val expected = bundle.read(golden.getJSONObject("logits").getString("file")).asFloatBuffer()
    val hu = Tensor.allocateFloatBuffer(stored.capacity())
    for (i in 0 until stored.capacity()) hu.put(i, stored.get(i).toFloat())
    val logits = Tensor.allocateFloatBuffer(classes * hu.capacity())

    val threads = (Runtime.getRuntime().availableProcessors() / 2).coerceIn(1, 4) // about the fast cores
    Module.load(artifact.path, Module.LOAD_MODE_MMAP, threads).use { module -> runTile(module, hu, tile, logits) }

    val labels = argmax(logits, classes)
    val expectedLabels = argmax(expected, classes)
    val (height, width) = listOf(tile[1].toInt(), tile[2].toInt())
    val stride = golden.getInt("stride")
    var squares = 0.0
    var agreeing = 0
    for (z in 0 until d) for (y in 0 until h) for (x in 0 until w) { // of the golden logits; they are every `stride`-th voxel
        val here = ((z * stride) * height + y * stride) * width + x * stride
        val there = (z * h + y) * w + x
        if (labels[here] == expectedLabels[there]) agreeing++
        for (c in 0 until classes) {
            val difference = logits.get(c * hu.capacity() + here).toDouble() - expected.get(c * d * h * w + there)
            squares += difference * difference
        }
    }
    val rms = sqrt(squares / expected.capacity())
    val allowed = parity.getJSONObject("tolerance").getDouble("logit_rms")
    val difference = "logits differ by %.1e (root mean square), allowed %s".format(Locale.ROOT, rms, allowed)
    println("executorch/$precision: $difference")
    println("%.5f of the labels agree".format(Locale.ROOT, agreeing.toDouble() / (d * h * w)))
    check(rms <= allowed) { "executorch/$precision does not compute here what it computed at export" }
    return labels
}
