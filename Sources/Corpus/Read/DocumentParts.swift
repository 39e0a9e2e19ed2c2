/// The documents of each split, a single one cut in two.
package struct DocumentParts {
    package private(set) var train: [SourceDocuments.Document] = []
    package private(set) var validation: [SourceDocuments.Document] = []

    package init(_ source: SourceDocuments) {
        let splits = splits(of: source.documents.map { ($0.split, $0.hash) })
        for (document, split) in zip(source.documents, splits) {
            switch split {
            case .train: train.append(document)
            case .valid: validation.append(document)
            case .test: break
            }
        }
        if validation.isEmpty, train.count == 1 { cut(train[0], source) }
    }

    private mutating func cut(_ document: SourceDocuments.Document, _ source: SourceDocuments) {
        let range = document.range
        let first = document.file == nil
            ? cutPoint(of: source.text.span.extracting(range)) : range.count - (range.count + 9) / 10
        train[0].range = range.lowerBound..<(range.lowerBound + first)
        validation = [document]
        validation[0].range = (range.lowerBound + first)..<range.upperBound
    }
}
