// Does ONNX Runtime compute on this device what the bundle's model computed when it was exported?
//
//   implementation("com.microsoft.onnxruntime:onnxruntime-android:1.23.0")   or newer, in build.gradle.kts
//
// `bundle` is a folder that the app can read as files, such as File(filesDir, "model.edge"). Call `checkBundle` off the main thread.
// The same file runs on a desktop: onnxruntime instead of onnxruntime-android, org.json beside it, and
//
//   java ... CheckKt model.edge [fp32]

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.security.MessageDigest
import java.util.Locale
import kotlin.math.sqrt
import kotlin.system.exitProcess
import org.json.JSONArray
import org.json.JSONObject

/** A bundle folder; [file] and [read] give only what has the manifest's SHA-256. */
class Bundle(private val folder: File) {
    val manifest = JSONObject(File(folder, "manifest.json").readText())

    init {
        require(manifest.getInt("schema_version") == 3) { "this program reads schema_version 3" }
    }

    fun file(name: String): File {
        val file = File(folder, name)
        val digest = MessageDigest.getInstance("SHA-256")
        file.inputStream().use { stream ->
            val chunk = ByteArray(1 shl 16)
            while (true) {
                val count = stream.read(chunk)
                if (count < 0) break
                digest.update(chunk, 0, count)
            }
        }
        val hex = digest.digest().joinToString("") { byte -> "%02x".format(byte) }
        check(hex == manifest.getJSONObject("files").getString(name)) { "$name was altered or damaged" }
        return file
    }

    /** Raw numbers of the bundle are little-endian; a ByteBuffer is big-endian unless told. */
    fun read(name: String): ByteBuffer = ByteBuffer.wrap(file(name).readBytes()).order(ByteOrder.LITTLE_ENDIAN)
}

/** The entry of a list (artifacts, parity.json) for onnx/<precision>. */
fun findEntry(entries: JSONArray, precision: String): JSONObject =
    (0 until entries.length()).map { entries.getJSONObject(it) }
        .first { it.getString("target") == "onnx" && it.getString("precision") == precision }

fun loadModel(environment: OrtEnvironment, bundle: Bundle, precision: String): OrtSession {
    val artifact = findEntry(bundle.manifest.getJSONArray("artifacts"), precision)
    val model = bundle.file(artifact.getString("path"))
    OrtSession.SessionOptions().use { options ->
        options.setIntraOpNumThreads((Runtime.getRuntime().availableProcessors() / 2).coerceIn(1, 4)) // about the fast cores
        options.setInterOpNumThreads(1)
        options.addConfigEntry("session.intra_op.allow_spinning", "0") // waiting threads sleep: battery
        options.setMemoryPatternOptimization(false) // a planned arena would be allocated beside the first
        return environment.createSession(model.path, options)
    }
}

/** Runs one tile: (D, H, W) HU -> (C, D, H, W) logits. Both are direct buffers, so that nothing passes through the Java heap. */
fun runTile(session: OrtSession, environment: OrtEnvironment, hu: FloatBuffer, tile: LongArray, logits: FloatBuffer) {
    val classes = (logits.capacity() / hu.capacity()).toLong()
    OnnxTensor.createTensor(environment, hu, longArrayOf(1, 1, tile[0], tile[1], tile[2])).use { input ->
        OnnxTensor.createTensor(environment, logits, longArrayOf(1, classes, tile[0], tile[1], tile[2])).use { output ->
            session.run(mapOf("image_hu" to input), mapOf("logits" to output)).close()
        }
    }
}

fun directFloats(count: Int): FloatBuffer = ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asFloatBuffer()

class Report(val precision: String, val rms: Double, val allowed: Double, val agreement: Double, val readyMs: Long, val tileMs: Long) {
    val passed = rms <= allowed

    override fun toString() = String.format(
        Locale.ROOT,
        "onnx/%s: logits differ by %.1e (root mean square), allowed %s%n%.5f of the labels agree; ready in %d ms, %d ms a tile: %s",
        precision, rms, allowed, agreement, readyMs, tileMs, if (passed) "passed" else "failed",
    )
}

/** Runs the golden tile and compares. */
fun checkBundle(folder: File, precision: String = "fp32"): Report {
    val bundle = Bundle(folder)
    val golden = JSONObject(bundle.file("golden/golden.json").readText()).getJSONObject("tile")
    val parity = findEntry(JSONArray(bundle.file("parity.json").readText()), precision)
    val tile = shapeOf(golden.getJSONObject("hu"))
    val shape = shapeOf(golden.getJSONObject("logits"))
    val stored = bundle.read(golden.getJSONObject("hu").getString("file")).asShortBuffer()
    val expected = bundle.read(golden.getJSONObject("logits").getString("file")).asFloatBuffer()
    val hu = directFloats(stored.capacity())
    for (i in 0 until stored.capacity()) hu.put(i, stored.get(i).toFloat())
    val logits = directFloats(shape[0].toInt() * hu.capacity())

    val environment = OrtEnvironment.getEnvironment()
    val started = System.nanoTime()
    loadModel(environment, bundle, precision).use { session ->
        val ready = System.nanoTime()
        runTile(session, environment, hu, tile, logits) // the first tile also allocates
        val warm = System.nanoTime()
        runTile(session, environment, hu, tile, logits)
        val done = System.nanoTime()
        val (rms, agreement) = compare(logits, tile, expected, shape, golden.getInt("stride"))
        val allowed = parity.getJSONObject("tolerance").getDouble("logit_rms")
        return Report(precision, rms, allowed, agreement, (ready - started) / 1_000_000, (done - warm) / 1_000_000)
    }
}

fun shapeOf(described: JSONObject): LongArray {
    val sides = described.getJSONArray("shape")
    return LongArray(sides.length()) { sides.getLong(it) }
}

/** [found] is (C, D, H, W); [expected] (C, d, h, w) is every [stride]-th voxel of what it should be. Root mean square, agreement. */
fun compare(found: FloatBuffer, tile: LongArray, expected: FloatBuffer, shape: LongArray, stride: Int): Pair<Double, Double> {
    val (depth, height, width) = tile.map { it.toInt() }
    val (classes, d, h, w) = shape.map { it.toInt() }
    var squares = 0.0
    var agreeing = 0
    for (z in 0 until d) for (y in 0 until h) for (x in 0 until w) {
        fun here(c: Int) = found.get(((c * depth + z * stride) * height + y * stride) * width + x * stride)
        fun there(c: Int) = expected.get(((c * d + z) * h + y) * w + x)
        var label = 0
        var expectedLabel = 0
        for (c in 0 until classes) {
            val difference = here(c).toDouble() - there(c)
            squares += difference * difference
            if (here(c) > here(label)) label = c
            if (there(c) > there(expectedLabel)) expectedLabel = c
        }
        if (label == expectedLabel) agreeing++
    }
    return Pair(sqrt(squares / expected.capacity()), agreeing.toDouble() / (d * h * w))
}

fun main(arguments: Array<String>) {
    val report = checkBundle(File(arguments[0]), arguments.getOrElse(1) { "fp32" })
    println(report)
    exitProcess(if (report.passed) 0 else 1)
}
