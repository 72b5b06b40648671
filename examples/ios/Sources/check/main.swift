// swift run check MODEL_FOLDER [FILE]: whether the answers are those that were recorded. On a Mac; exits with 1 if one is
// not, and with 2 if it cannot run.
import CoreML
import Example
import Foundation

func complain(_ what: String) -> Never {
    FileHandle.standardError.write(Data((what + "\n").utf8))
    exit(2)
}

let arguments = CommandLine.arguments.dropFirst()
guard let path = arguments.first else { complain("usage: check MODEL_FOLDER [FILE]") }
let file = arguments.dropFirst().first ?? "onnx/model_quantized.onnx"
do {
    let folder = try ModelFolder(URL(fileURLWithPath: path))
    let model: Model
    if file.hasSuffix(".mlpackage") {
        model = try CoreMLModel(compiled: await MLModel.compileModel(at: folder.file(file)))
    } else {
        let length = file.firstMatch(of: /_(\d+)\.onnx$/).flatMap { Int($0.1) }
        model = try OnnxModel(folder.file(file), threads: 1, length: length, padding: folder.padding)
    }
    let checked = try check(folder, file: file, model: model)
    checked.lines.forEach { print($0) }
    print(checked.summary)
    exit(checked.passed ? 0 : 1)
} catch {
    complain("\(path): \(error.localizedDescription)")
}
