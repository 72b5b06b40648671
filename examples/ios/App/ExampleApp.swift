import Example
import SwiftUI

/// An app with the folder `model` in its bundle, added to the project as a folder reference.
@main
struct ExampleApp: App {
    @State private var report = "Loading the model …"

    var body: some Scene {
        WindowGroup {
            ScrollView { Text(report).padding() }
                .task {
                    report = await Task.detached { ExampleApp.answer() }.value
                }
        }
    }

    /// The label of a text, and whether the app's answers are those that were recorded.
    private static func answer() -> String {
        let file = "onnx/model_quantized.onnx"
        do {
            guard let url = Bundle.main.url(forResource: "model", withExtension: nil) else {
                return "The app has no folder named model."
            }
            let folder = try ModelFolder(url)
            let model = try OnnxModel(folder.file(file), padding: folder.padding)
            let tokens = try folder.tokenizer().encode("A fine film.")
            let labels = folder.choices.labels(try model.items(ids: tokens.ids, types: tokens.types)[0])
            let checked = try check(folder, file: file, model: model)
            let named = labels.map { "\($0.name) \(String(format: "%.3f", $0.probability))" }
            return (named + [checked.summary] + checked.lines).joined(separator: "\n")
        } catch {
            return error.localizedDescription
        }
    }
}
