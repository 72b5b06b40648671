package example

import java.io.File
import kotlin.system.exitProcess

/**
 * The check on a computer, of any file for ONNX Runtime: `MODEL_FOLDER [FILE [EXTENSIONS_LIBRARY]]`. The same classes as on
 * the phone, with the dependency `com.microsoft.onnxruntime:onnxruntime` in the place of `onnxruntime-android`.
 */
fun main(arguments: Array<String>) {
    if (arguments.isEmpty()) {
        System.err.println("usage: MODEL_FOLDER [FILE [EXTENSIONS_LIBRARY]]")
        exitProcess(2)
    }
    val file = arguments.getOrElse(1) { "onnx/model_quantized.onnx" }
    try {
        val folder = ModelFolder(File(arguments[0]))
        val checked =
            if (file == BakedModel.FILE) {
                val library = requireNotNull(arguments.getOrNull(2)) { "$file needs the library of onnxruntime-extensions" }
                BakedModel(folder.file(file), library, threads = 1).use { checkBaked(folder, it) }
            } else {
                OnnxModel(folder.file(file), threads = 1, folder.padding).use { check(folder, file, it) }
            }
        checked.lines.forEach(::println)
        println(checked.summary)
        exitProcess(if (checked.passed) 0 else 1)
    } catch (error: Exception) {
        System.err.println("${arguments[0]}: ${error.message}")
        exitProcess(2)
    }
}
