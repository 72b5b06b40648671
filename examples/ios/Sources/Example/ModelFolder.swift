import Foundation

/// What is wrong with a model's folder, for people.
public struct FolderError: LocalizedError {
    public let errorDescription: String?

    public init(_ what: String) { errorDescription = what }
}

/// The folder that `compress run` leaves, `artifacts/NAME/model`, or the files of it that the app has.
public struct ModelFolder {
    private let url: URL
    /// Names of the choices, and how they are chosen.
    public let choices: Choices
    /// Id of the token that fills rows of a fixed length.
    public let padding: Int64
    /// Whether the model takes token types.
    public let takesTypes: Bool

    /// Reads config.json.
    public init(_ url: URL) throws {
        self.url = url
        let config = try Self.json(url.appendingPathComponent("config.json"))
        choices = Choices(
            names: config["id2label"] as? [String: String] ?? [:],
            several: config["problem_type"] as? String == "multi_label_classification",
            thresholds: config["label_thresholds"] as? [String: Double] ?? [:]
        )
        padding = (config["pad_token_id"] as? NSNumber)?.int64Value ?? 0
        takesTypes = config["model_type"] as? String != "distilbert"
    }

    /// A file, such as `onnx/model_quantized.onnx`.
    public func file(_ name: String) -> URL { url.appendingPathComponent(name) }

    /// The tokenizer; throws if it is not one of BERT's.
    public func tokenizer() throws -> WordPiece {
        let parts = try Self.json(file("tokenizer.json"))
        let names = try Self.json(file("tokenizer_config.json"))
        guard let model = parts["model"] as? NSDictionary, let normalizer = parts["normalizer"] as? NSDictionary,
            let splitter = parts["pre_tokenizer"] as? NSDictionary,
            [model, normalizer, splitter].map({ $0["type"] as? String }) == ["WordPiece", "BertNormalizer", "BertPreTokenizer"],
            model["continuing_subword_prefix"] as? String ?? "##" == "##"
        else {
            throw FolderError("tokenizer.json: this example reads WordPiece with BertNormalizer and BertPreTokenizer")
        }
        let truncation = parts["truncation"] as? NSDictionary
        if truncation?["direction"] as? String == "Left" { throw FolderError("tokenizer.json: texts are cut on the left") }
        var settings = WordPiece.Settings()
        settings.first = names["cls_token"] as? String ?? settings.first
        settings.last = names["sep_token"] as? String ?? settings.last
        settings.unknown = model["unk_token"] as? String ?? settings.unknown
        settings.longest = truncation?["max_length"] as? Int ?? settings.longest
        settings.lowercase = normalizer["lowercase"] as? Bool ?? true
        settings.stripAccents = normalizer["strip_accents"] as? Bool ?? settings.lowercase
        settings.cleanText = normalizer["clean_text"] as? Bool ?? true
        settings.splitChinese = normalizer["handle_chinese_chars"] as? Bool ?? true
        settings.longestWord = model["max_input_chars_per_word"] as? Int ?? settings.longestWord
        // Not as a Swift dictionary, which takes some of the tokens for equal: see WordPiece.
        let vocabulary = (model["vocab"] as? NSDictionary ?? [:]).map { ($0.key as! String, ($0.value as! NSNumber).intValue) }
        let added = (parts["added_tokens"] as? [NSDictionary] ?? []).map { ($0["content"] as! String, $0["id"] as! Int) }
        return WordPiece(vocabulary: vocabulary, added: added, settings: settings)
    }

    private static func json(_ url: URL) throws -> NSDictionary {
        guard let found = try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? NSDictionary else {
            throw FolderError("\(url.lastPathComponent) is not an object")
        }
        return found
    }
}
