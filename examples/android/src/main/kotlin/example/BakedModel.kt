package example

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.io.File

/**
 * `onnx/model_with_tokenizer.onnx`: texts in, labels out. Of one text a call; the file takes several.
 *
 * @param file The file.
 * @param library Path of the library of onnxruntime-extensions: on Android `OrtxPackage.getLibraryPath()`, of a package
 *   that has the operators of this file; the published one may lack them.
 * @param threads Threads within an operator.
 */
class BakedModel(file: File, library: String, threads: Int) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session = OrtSession.SessionOptions().use { options ->
        options.setIntraOpNumThreads(threads)
        options.addConfigEntry("session.intra_op.allow_spinning", "0")
        options.registerCustomOpLibrary(library)
        environment.createSession(file.path, options)
    }

    /** Labels of a text: one, or of a multi-label model those above their thresholds, which the file knows. */
    fun labels(text: String, pair: String? = null): List<String> {
        val names = listOf("text", "text_pair")
        val feeds = listOfNotNull(text, pair).withIndex().associate { (index, value) ->
            names[index] to OnnxTensor.createTensor(environment, arrayOf(value))
        }
        try {
            session.run(feeds, setOf("label")).use { outputs ->
                val label = outputs["label"].get() as OnnxTensor
                val values = label.value as Array<*>
                val given = if (label.info.shape.size == 1) values else values[0] as Array<*>
                return given.map { it as String }.filter { it.isNotEmpty() }
            }
        } finally {
            feeds.values.forEach { it.close() }
        }
    }

    override fun close() = session.close()

    companion object {
        const val FILE = "onnx/model_with_tokenizer.onnx"
    }
}
