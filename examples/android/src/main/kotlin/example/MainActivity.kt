package example

import android.app.Activity
import android.os.Bundle
import android.widget.ScrollView
import android.widget.TextView
import java.io.File
import kotlin.concurrent.thread

/** Shows the label of a text, and whether the app's answers are those that were recorded. */
class MainActivity : Activity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val view = TextView(this)
        setContentView(ScrollView(this).apply { addView(view) })
        thread {
            val text = try {
                report(ModelFolder(copied("model")))
            } catch (error: Exception) {
                error.toString()
            }
            runOnUiThread { view.text = text }
        }
    }

    private fun report(folder: ModelFolder): String =
        load(folder).use { model ->
            val tokens = folder.tokenizer().encode("A fine film.")
            val labels = folder.choices.labels(model.items(tokens.ids, tokens.types).first())
            val checked = check(folder, FILE, model)
            (labels.map { "%s %.3f".format(it.name, it.probability) } + checked.summary + checked.lines).joinToString("\n")
        }

    private fun load(folder: ModelFolder): Model =
        if (FILE.endsWith(".pte")) {
            ExecuTorchModel(folder.file(FILE), THREADS, folder.takesTypes)
        } else {
            OnnxModel(folder.file(FILE), THREADS, folder.padding)
        }

    /** Runtimes open files, not assets: copies a folder of assets beside the app's own files. */
    private fun copied(name: String): File {
        val target = File(filesDir, name)
        val inside = assets.list(name).orEmpty()
        if (inside.isEmpty()) {
            target.parentFile!!.mkdirs()
            assets.open(name).use { source -> target.outputStream().use { source.copyTo(it) } }
        } else {
            inside.forEach { copied("$name/$it") }
        }
        return target
    }

    private companion object {
        const val FILE = "onnx/model_quantized.onnx"
        const val THREADS = 2
    }
}
