/// Where each split's documents lie in the texts.
package struct TextParts {
    package private(set) var train: [Range<Int>] = []
    package private(set) var validation: [Range<Int>] = []

    package init(_ texts: Texts) {
        let splits = splits(of: texts.documents.map { ($0.split, $0.hash) })
        for (document, split) in zip(texts.documents, splits) {
            switch split {
            case .train: train.append(document.range)
            case .valid: validation.append(document.range)
            case .test: break
            }
        }
        if validation.isEmpty, train.count == 1, let range = train.first {
            let cut = range.lowerBound + cutPoint(of: texts.bytes.span.extracting(range))
            train = [range.lowerBound..<cut]
            validation = [cut..<range.upperBound]
        }
    }
}
