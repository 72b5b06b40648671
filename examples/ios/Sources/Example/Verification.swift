import Foundation

/// What a check has found: a line for each row, and whether all is as it was recorded.
public struct Checked {
    public let lines: [String]
    public let summary: String
    public let passed: Bool
}

/// verification.json, schema_version 3.
private struct Recorded: Decodable {
    struct Row: Decodable {
        let input_ids: [Int64]
        let token_type_ids: [Int64]?
    }
    struct Answers: Decodable {
        let choices: [[[Int]]]
        let logits: [[[Double]]]
    }
    let schema_version: Int
    let task: String
    let rows: [Row]
    let texts: [[String]]?
    let answers: [String: Answers]
}

/// Cosine from which a vector is the recorded one.
private let sameVector = 0.99

/// Compares a model's answers, and a tokenizer's tokens, with those that were recorded when the model was made.
///
/// - Parameters:
///   - folder: The model's folder.
///   - file: The file whose recorded answers are compared, such as `coreml/model.mlpackage`. Files of a fixed length have
///     the answers of the file that they were made of.
///   - model: That file, loaded.
public func check(_ folder: ModelFolder, file: String, model: Model) throws -> Checked {
    let recorded = try JSONDecoder().decode(Recorded.self, from: Data(contentsOf: folder.file("verification.json")))
    guard recorded.schema_version == 3 else { throw FolderError("verification.json: schema_version is not 3") }
    let source = file.replacingOccurrences(of: #"_\d+\.onnx$"#, with: ".onnx", options: .regularExpression)
    guard let answers = recorded.answers[source] else {
        let others = recorded.answers.keys.sorted().joined(separator: ", ")
        throw FolderError("verification.json has no answers of \(source), only of \(others)")
    }
    let tokenizer = try recorded.texts.map { _ in try folder.tokenizer() }
    var (lines, agreeing, tokenized) = ([String](), 0, 0)
    for (index, row) in recorded.rows.enumerated() {
        let items = try model.items(ids: row.input_ids, types: row.token_type_ids ?? row.input_ids.map { _ in 0 })
        let (choices, logits) = (answers.choices[index], answers.logits[index])
        let (given, agrees) =
            recorded.task == "sentence-similarity"
            ? vectorAgrees(items[0], choices[0], logits[0]) : labelsAgree(folder.choices, items, choices, logits)
        var same = true
        if let text = recorded.texts?[index] {
            same = tokenizer!.encode(text[0], pair: text.count > 1 ? text[1] : nil).ids == row.input_ids
            tokenized += same ? 1 : 0
        }
        agreeing += agrees ? 1 : 0
        lines.append("row \(index): \(given)\(agrees ? "" : ", recorded otherwise")\(same ? "" : ", other tokens")")
    }
    let texts = recorded.texts?.count ?? 0
    let summary = "\(agreeing) of \(lines.count) answers as recorded, \(tokenized) of \(texts) texts with the recorded tokens"
    return Checked(lines: lines, summary: summary, passed: agreeing == lines.count && tokenized == texts)
}

private func labelsAgree(_ names: Choices, _ items: [[Float]], _ choices: [[Int]], _ logits: [[Double]]) -> (String, Bool) {
    let given = choices.indices.map { names.chosen(items[$0]) }
    // Of a multi-label model the recorded logits are less the logit of the label's threshold: above 0 the label is given.
    let wanted = choices.indices.map { item in
        names.several ? zip(choices[item], logits[item]).filter { $0.1 > 0 }.map(\.0).sorted() : [choices[item][0]]
    }
    return (given[0].map(names.name).joined(separator: ", "), given == wanted)
}

private func vectorAgrees(_ vector: [Float], _ dimensions: [Int], _ values: [Double]) -> (String, Bool) {
    var wanted = [Double](repeating: 0, count: vector.count)
    for (dimension, value) in zip(dimensions, values) { wanted[dimension] = value }
    let given = vector.map(Double.init)
    func dot(_ one: [Double], _ other: [Double]) -> Double { zip(one, other).reduce(0) { $0 + $1.0 * $1.1 } }
    let cosine = dot(given, wanted) / (dot(given, given) * dot(wanted, wanted)).squareRoot()
    return (String(format: "cosine %.4f", cosine), cosine >= sameVector)
}
