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
import java.nio.ShortBuffer
import java.security.MessageDigest
import java.util.Locale
import kotlin.math.abs
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

    /** A golden array. Its numbers are little-endian; a ByteBuffer is big-endian unless told. */
    fun read(described: JSONObject): ByteBuffer {
        val name = described.getString("file")
        val bytes = file(name).readBytes()
        val bytesPerNumber = described.getString("dtype").takeLast(1).toLong() // "<i2", "<f4", "|u1"
        val size = shapeOf(described).fold(bytesPerNumber) { count, side -> count * side }
        check(bytes.size.toLong() == size) { "$name has another size than its shape" }
        return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
    }
}

/** The entry of a list (artifacts, parity.json) for onnx/<precision>. */
fun findEntry(entries: JSONArray, precision: String): JSONObject =
    (0 until entries.length()).map { entries.getJSONObject(it) }
        .firstOrNull { it.getString("target") == "onnx" && it.getString("precision") == precision }
        ?: error("the bundle holds no onnx/$precision")

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

class Report(
    val precision: String, val rms: Double, val allowed: Double, val agreement: Double, val readyMs: Long, val tileMs: Long,
    val wrongHu: Int, val wrongLabels: Int, val weights: Int,
) {
    val passed = rms <= allowed && wrongHu + wrongLabels == 0

    override fun toString() = String.format(
        Locale.ROOT,
        "onnx/%s: logits differ by %.1e (root mean square), allowed %s%n%.5f of the labels agree; ready in %d ms, %d ms a tile%n" +
            "scan ends: %d values differ; decision weights: %d labels differ%s: %s",
        precision, rms, allowed, agreement, readyMs, tileMs, wrongHu, wrongLabels,
        if (weights > 0) "" else " (no weights in this bundle)", if (passed) "passed" else "failed",
    )
}

/** First tile of a scan on the model's grid: its first and last slice again beyond the ends, air beside it. */
fun firstTile(hu: ShortBuffer, scan: LongArray, tile: IntArray, input: JSONObject): FloatArray {
    val (d, h, w) = scan.map { it.toInt() }
    val (depth, height, width) = tile
    val step = maxOf(1, (depth * (1 - input.getDouble("overlap"))).toInt())
    fun tiles(rows: Int) = 1 + (maxOf(0, rows - depth) + step - 1) / step
    var beyond = 0 // as many slices as add no tile
    while (beyond < input.getInt("rows_beyond_ends") && tiles(d + 2 * (beyond + 1)) == tiles(d)) beyond++
    fun before(side: Int, whole: Int, patch: Int) = (maxOf(whole, patch) - side) / 2
    val above = before(d, d + 2 * beyond, depth)
    val front = before(h, h, height)
    val left = before(w, w, width)
    val air = input.getJSONArray("window_hu").getDouble(0).toFloat()
    val found = FloatArray(depth * height * width) { air }
    for (z in 0 until depth) for (y in 0 until minOf(h, height)) for (x in 0 until minOf(w, width)) {
        val slice = (z - above).coerceIn(0, d - 1)
        found[(z * height + y + front) * width + x + left] = hu.get((slice * h + y) * w + x).toFloat()
    }
    return found
}

/** Labels (N) of probabilities (C, N): the class whose probability times its decision weight is the largest. */
fun decide(probabilities: FloatBuffer, manifest: JSONObject): IntArray {
    val given = manifest.getJSONObject("postprocess").getJSONObject("decision_weights")
    val labels = manifest.getJSONArray("labels")
    val names = (0 until labels.length()).map { labels.getJSONObject(it).getString("name") }
    val weights = listOf(1f) + names.map { given.optDouble(it, 1.0).toFloat() }
    val voxels = probabilities.capacity() / weights.size
    return IntArray(voxels) { voxel -> weights.indices.maxByOrNull { weights[it] * probabilities.get(it * voxels + voxel) }!! }
}

/** Compares both rules with the golden arrays: how many values and labels differ. */
fun checkRules(bundle: Bundle, golden: JSONObject): Pair<Int, Int> {
    val ends = golden.getJSONObject("ends")
    val decision = golden.getJSONObject("decision")
    val patch = ends.getJSONArray("patch").let { sides -> IntArray(3) { sides.getInt(it) } }
    val wrongHu = listOf("short", "long").sumOf { scan ->
        val hu = ends.getJSONObject("${scan}_hu")
        val tile = firstTile(bundle.read(hu).asShortBuffer(), shapeOf(hu), patch, bundle.manifest.getJSONObject("input"))
        val expected = bundle.read(ends.getJSONObject("${scan}_tile")).asShortBuffer()
        check(expected.capacity() == tile.size) { "the $scan tile has another size than the bundle's" }
        tile.indices.count { abs(tile[it] - expected.get(it)) > 0.01f }
    }
    val labels = decide(bundle.read(decision.getJSONObject("probabilities")).asFloatBuffer(), bundle.manifest)
    val expected = bundle.read(decision.getJSONObject("labels"))
    check(expected.capacity() == labels.size) { "the labels after the weights have another size than the bundle's" }
    return Pair(wrongHu, labels.indices.count { labels[it] != (expected.get(it).toInt() and 0xff) })
}

/** Runs the golden tile and both rules, and compares. */
fun checkBundle(folder: File, precision: String = "fp32"): Report {
    val bundle = Bundle(folder)
    val vectors = JSONObject(bundle.file("golden/golden.json").readText())
    val golden = vectors.getJSONObject("tile")
    val parity = findEntry(JSONArray(bundle.file("parity.json").readText()), precision)
    val tile = shapeOf(golden.getJSONObject("hu"))
    val shape = shapeOf(golden.getJSONObject("logits"))
    val stored = bundle.read(golden.getJSONObject("hu")).asShortBuffer()
    val expected = bundle.read(golden.getJSONObject("logits")).asFloatBuffer()
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
        val (wrongHu, wrongLabels) = checkRules(bundle, vectors)
        val weights = bundle.manifest.getJSONObject("postprocess").getJSONObject("decision_weights").length()
        return Report(
            precision, rms, allowed, agreement, (ready - started) / 1_000_000, (done - warm) / 1_000_000, wrongHu, wrongLabels,
            weights,
        )
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
    require(arguments.isNotEmpty()) { "usage: CheckKt BUNDLE [PRECISION]" }
    val report = checkBundle(File(arguments[0]), arguments.getOrElse(1) { "fp32" })
    println(report)
    exitProcess(if (report.passed) 0 else 1)
}
