import Base
import Checkpoint
import Foundation
import Testing

/// Checkpoints of version 1, as the program wrote them before there were slices and blocks: the same state, by one
/// process and by two ranks. Byte i of the state's memory is (7 i + i / 256) mod 256, and a tensor is a part of it.
@Suite struct OldFormatTests {
    private struct Tensor {
        let spec: TensorSpec
        let start: Int

        var bytes: [UInt8] {
            (start..<(start + spec.byteCount)).map { UInt8(truncatingIfNeeded: $0 * 7 + $0 / 256) }
        }
    }

    private static let model = [
        Tensor(spec: TensorSpec("scale", .bfloat16, [5]), start: 0),
        Tensor(spec: TensorSpec("embed.weight", .float32, [4, 3]), start: 16),
        Tensor(spec: TensorSpec("none", .float32, [0, 3]), start: 64),
        Tensor(spec: TensorSpec("norm.weight", .float32, [3]), start: 64),
    ]
    private static let optimizer = [
        Tensor(spec: TensorSpec("momentum.embed.weight", .float32, [4, 3]), start: 100),
        Tensor(spec: TensorSpec("count", .int64, []), start: 200),
    ]

    private let disk = FaultyDisk()
    private let path = "/run/checkpoint/step-7"

    private func place(_ files: [String: String]) throws {
        for folder in ["/run", "/run/checkpoint", path] { try disk.createFolder(folder) }
        for (name, text) in files {
            let bytes = [UInt8](try #require(Data(base64Encoded: text)))
            disk.close(try disk.create("\(path)/\(name)", size: bytes.count))
            disk.tamper("\(path)/\(name)") { $0 = bytes }
        }
    }

    @Test(arguments: [1, 2]) func isRead(ranks: Int) throws {
        try place(ranks == 1 ? Self.one : Self.two)
        let checkpoint = try CheckpointFolder("/run/checkpoint", disk: disk).latest().checkpoint
        #expect(checkpoint.manifest.version == 1 && checkpoint.manifest.worldSize == ranks)
        #expect(checkpoint.step == 7 && checkpoint.manifest.tokens == 448 && checkpoint.manifest.data.row == 56)
        #expect(checkpoint.manifest.state == ["lowest_loss": .number(0.1)])
        #expect(try checkpoint.recipe() == "[model]\ndim = 3\n")
        try checkpoint.requireModel(Self.model.map(\.spec))
        try checkpoint.requireOptimizer(Self.optimizer.map(\.spec))
        let reader = checkpoint.reader()
        for tensor in Self.model + Self.optimizer {
            #expect(try checkpoint.readBytes(tensor.spec) == tensor.bytes, "\(tensor.spec.name)")
            let width = tensor.spec.type.width, count = tensor.spec.byteCount / width
            for first in 0...count {
                for end in first...count {
                    let found = try checkpoint.readBytes(tensor.spec, first..<end, with: reader)
                    #expect(found == Array(tensor.bytes[(first * width)..<(end * width)]))
                }
            }
        }
    }

    /// Damage is found as ever, also by a reader that is asked for a part of a tensor far from it.
    @Test(arguments: [1, 2]) func everyByte(ranks: Int) throws {
        try place(ranks == 1 ? Self.one : Self.two)
        let checkpoint = try Checkpoint.open(path, disk: disk)
        for file in checkpoint.manifest.files {
            for position in 0..<file.size {
                disk.tamper("\(path)/\(file.name)") { $0[position] ^= 1 << (position % 8) }
                let tensor = checkpoint.manifest.tensors.first {
                    $0.slices[0].file == file.name && $0.slices[0].begin <= position && position < $0.slices[0].end
                }
                let damages = checkpoint.verify()
                #expect(damages.map(\.path) == ["\(path)/\(file.name)"] && damages.map(\.tensor) == [tensor?.name])
                if let tensor {
                    #expect(throws: CheckpointError.self) { try checkpoint.readBytes(tensor.spec, 0..<1) }
                }
                disk.tamper("\(path)/\(file.name)") { $0[position] ^= 1 << (position % 8) }
            }
        }
        #expect(checkpoint.verify() == [])
    }

    private static let one = [
        "config.toml": """
            W21vZGVsXQpkaW0gPSAzCg==
            """,
        "manifest.json": """
            ewoic2VsZl9zaGEyNTYiOiIyYTVhNThiYjc2YWE0OTA4MTA3NWEyYmRiNGU3ZGE1M2U2YTUyODU5OWFlMDEwMzJiYTQ4MGIxY2ZhMjEy\
            MGQxIiwKImRhdGEiOnsiZmluZ2VycHJpbnQiOiJmMDBkIiwicG9zaXRpb24iOiIwMDA0MDgwYzEwMTQxODFjMjAyNDI4MmMzMDM0Mzgz\
            YzQwNDQ0ODRjNTA1NDU4NWM2MDY0Njg2YzcwNzQ3ODdjODA4NDg4OGM5MDk0OTg5Y2EwYTRhOGFjYjBiNGI4YmNjMGM0YzhjY2QwZDRk\
            OGRjZTBlNGU4ZWNmMGY0ZjhmYyIsInJvdyI6NTYsInNlZWQiOjE4NDQ2NzQ0MDczNzA5NTUxNjE1fSwKImZpbGVzIjpbCnsibmFtZSI6\
            Im1vZGVsLnNhZmV0ZW5zb3JzIiwic2hhMjU2IjoiZTZkMTA5MzViZGYxYjkwYWFjNTYyMTQxNGE1MTA5OGRkZGJlYzUxNTRmZGVmNTM0\
            YWIwOGFhMDg3Zjg1MWIwYiIsInNpemUiOjM2Nn0sCnsibmFtZSI6Im9wdGltaXplci5zYWZldGVuc29ycyIsInNoYTI1NiI6IjFmMTkx\
            YTM3NzYzNTMwYmE4MjM3OTU0MDBmZDE4OGM1M2VkYzVmMzE1YjQzNmI2ODhiNTU0YjAzM2I4MDFmODciLCJzaXplIjoyMzJ9LAp7Im5h\
            bWUiOiJjb25maWcudG9tbCIsInNoYTI1NiI6Ijk3MTFjN2IwNGFjMTFlNmNkNjkzOWFmMmIxMTdjOWE3NWYzMTNmMDRlNjM0MjI4YWU2\
            NGM5NWU5Zjc0NmYzYmUiLCJzaXplIjoxNn0sCnsibmFtZSI6InRva2VuaXplci5qc29uIiwic2hhMjU2IjoiOTA1MTAzNzg2MzBjNDBh\
            YjNiZDQxMGRjOWNmZDgzMDE2YjhjOGVmMTUyM2FmMmQ1YzFhNjJkNTcyZmJkODlkZiIsInNpemUiOjI2fQpdLAoiZm9ybWF0Ijoic2tl\
            aW4tY2hlY2twb2ludCIsCiJybmciOnsiY291bnRlcnMiOnt9LCJzZWVkIjozfSwKInN0YXRlIjp7Imxvd2VzdF9sb3NzIjp7Im51bWJl\
            ciI6MC4xfX0sCiJzdGVwIjo3LAoidGVuc29ycyI6Wwp7ImJlZ2luIjoyOTYsImNyYzMyYyI6Ijc3QzkyNUE3IiwiZHR5cGUiOiJGMzIi\
            LCJlbmQiOjM0NCwiZmlsZSI6Im1vZGVsLnNhZmV0ZW5zb3JzIiwibmFtZSI6ImVtYmVkLndlaWdodCIsInNoYXBlIjpbNCwzXX0sCnsi\
            YmVnaW4iOjM0NCwiY3JjMzJjIjoiMDAwMDAwMDAiLCJkdHlwZSI6IkYzMiIsImVuZCI6MzQ0LCJmaWxlIjoibW9kZWwuc2FmZXRlbnNv\
            cnMiLCJuYW1lIjoibm9uZSIsInNoYXBlIjpbMCwzXX0sCnsiYmVnaW4iOjM0NCwiY3JjMzJjIjoiMEQ4MUJCMkQiLCJkdHlwZSI6IkYz\
            MiIsImVuZCI6MzU2LCJmaWxlIjoibW9kZWwuc2FmZXRlbnNvcnMiLCJuYW1lIjoibm9ybS53ZWlnaHQiLCJzaGFwZSI6WzNdfSwKeyJi\
            ZWdpbiI6MzU2LCJjcmMzMmMiOiJEQzM0QUY2MCIsImR0eXBlIjoiQkYxNiIsImVuZCI6MzY2LCJmaWxlIjoibW9kZWwuc2FmZXRlbnNv\
            cnMiLCJuYW1lIjoic2NhbGUiLCJzaGFwZSI6WzVdfSwKeyJiZWdpbiI6MTc2LCJjcmMzMmMiOiI0MzEyRjdCNiIsImR0eXBlIjoiSTY0\
            IiwiZW5kIjoxODQsImZpbGUiOiJvcHRpbWl6ZXIuc2FmZXRlbnNvcnMiLCJuYW1lIjoiY291bnQiLCJzaGFwZSI6W119LAp7ImJlZ2lu\
            IjoxODQsImNyYzMyYyI6IjhGQzlBQzhGIiwiZHR5cGUiOiJGMzIiLCJlbmQiOjIzMiwiZmlsZSI6Im9wdGltaXplci5zYWZldGVuc29y\
            cyIsIm5hbWUiOiJtb21lbnR1bS5lbWJlZC53ZWlnaHQiLCJzaGFwZSI6WzQsM119Cl0sCiJ0b2tlbnMiOjQ0OCwKInZlcnNpb24iOjEs\
            CiJ3b3JsZF9zaXplIjoxCn0K
            """,
        "model.safetensors": """
            IAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJlbWJlZC53ZWlnaHQiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6\
            WzQsM10sImRhdGFfb2Zmc2V0cyI6WzAsNDhdfSwibm9uZSI6eyJkdHlwZSI6IkYzMiIsInNoYXBlIjpbMCwzXSwiZGF0YV9vZmZzZXRz\
            IjpbNDgsNDhdfSwibm9ybS53ZWlnaHQiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzNdLCJkYXRhX29mZnNldHMiOls0OCw2MF19LCJz\
            Y2FsZSI6eyJkdHlwZSI6IkJGMTYiLCJzaGFwZSI6WzVdLCJkYXRhX29mZnNldHMiOls2MCw3MF19fSAgICBwd36FjJOaoaivtr3Ey9LZ\
            4Ofu9fwDChEYHyYtNDtCSVBXXmVsc3qBiI+WnaSrsrnAx87V3OPq8fj/Bg0ABw4VHCMqMTg/
            """,
        "optimizer.safetensors": """
            qAAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJjb3VudCI6eyJkdHlwZSI6Ikk2NCIsInNoYXBlIjpbXSwiZGF0\
            YV9vZmZzZXRzIjpbMCw4XX0sIm1vbWVudHVtLmVtYmVkLndlaWdodCI6eyJkdHlwZSI6IkYzMiIsInNoYXBlIjpbNCwzXSwiZGF0YV9v\
            ZmZzZXRzIjpbOCw1Nl19fSAgICB4f4aNlJuiqbzDytHY3+bt9PsCCRAXHiUsMzpBSE9WXWRrcnmAh46VnKOqsbi/xs3U2+Lp8Pf+BQ==
            """,
        "tokenizer.json": """
            eyJraW5kIjoiYnl0ZXMiLCJlbmQiOjI1Nn0=
            """,
    ]

    private static let two = [
        "config.toml": """
            W21vZGVsXQpkaW0gPSAzCg==
            """,
        "manifest.json": """
            ewoic2VsZl9zaGEyNTYiOiIwMGUyNWI4MzJhOWY1NmE0YzNkZWNlOTJmMmIzNzAzNmVlMTg3OTYxYzAyODY4ZTI5NzUxNTk5NzRiMDBl\
            NGNiIiwKImRhdGEiOnsiZmluZ2VycHJpbnQiOiJmMDBkIiwicG9zaXRpb24iOiIwMDA0MDgwYzEwMTQxODFjMjAyNDI4MmMzMDM0Mzgz\
            YzQwNDQ0ODRjNTA1NDU4NWM2MDY0Njg2YzcwNzQ3ODdjODA4NDg4OGM5MDk0OTg5Y2EwYTRhOGFjYjBiNGI4YmNjMGM0YzhjY2QwZDRk\
            OGRjZTBlNGU4ZWNmMGY0ZjhmYyIsInJvdyI6NTYsInNlZWQiOjE4NDQ2NzQ0MDczNzA5NTUxNjE1fSwKImZpbGVzIjpbCnsibmFtZSI6\
            Im1vZGVsLTAwMDAxLW9mLTAwMDAyLnNhZmV0ZW5zb3JzIiwic2hhMjU2IjoiZjlmZWM1NjdhZjAwNWU1MjgxNDExYjUzOTA0MWFhOTIw\
            NDUyZjFjMjQ4ODBmZTUxMzFmMjc1NzUxNTI5ZmVkNyIsInNpemUiOjE3MH0sCnsibmFtZSI6Im9wdGltaXplci0wMDAwMS1vZi0wMDAw\
            Mi5zYWZldGVuc29ycyIsInNoYTI1NiI6IjliNWI1ZmIzMzk0MTBlYmE5YzQzYjJlYjg1Njg4OWE5NjM1YTgxNGJlOGU2NGFkMmUxYzRi\
            YjkyODdmNTJkMjEiLCJzaXplIjoxNjh9LAp7Im5hbWUiOiJtb2RlbC0wMDAwMi1vZi0wMDAwMi5zYWZldGVuc29ycyIsInNoYTI1NiI6\
            IjYyZDhhMzFhNWUxOGNmMDA3YWIxM2M2MWQ3ZjlkMjNiMjBhYWYzMjczN2JhM2ZmNzYyOGZkNGE4ZjgzZWE2ZjAiLCJzaXplIjoyMzZ9\
            LAp7Im5hbWUiOiJvcHRpbWl6ZXItMDAwMDItb2YtMDAwMDIuc2FmZXRlbnNvcnMiLCJzaGEyNTYiOiJmYWMwNGRiY2I0NmYzOTYwYWUy\
            OWZiOGRmMzczMDUxZmVjNzcwMzQ1YTk0M2M5NzhhMGUyMjBiZmZkOWI0OTY4Iiwic2l6ZSI6MTA0fSwKeyJuYW1lIjoiY29uZmlnLnRv\
            bWwiLCJzaGEyNTYiOiI5NzExYzdiMDRhYzExZTZjZDY5MzlhZjJiMTE3YzlhNzVmMzEzZjA0ZTYzNDIyOGFlNjRjOTVlOWY3NDZmM2Jl\
            Iiwic2l6ZSI6MTZ9LAp7Im5hbWUiOiJ0b2tlbml6ZXIuanNvbiIsInNoYTI1NiI6IjkwNTEwMzc4NjMwYzQwYWIzYmQ0MTBkYzljZmQ4\
            MzAxNmI4YzhlZjE1MjNhZjJkNWMxYTYyZDU3MmZiZDg5ZGYiLCJzaXplIjoyNn0KXSwKImZvcm1hdCI6InNrZWluLWNoZWNrcG9pbnQi\
            LAoicm5nIjp7ImNvdW50ZXJzIjp7fSwic2VlZCI6M30sCiJzdGF0ZSI6eyJsb3dlc3RfbG9zcyI6eyJudW1iZXIiOjAuMX19LAoic3Rl\
            cCI6NywKInRlbnNvcnMiOlsKeyJiZWdpbiI6MTYwLCJjcmMzMmMiOiIwMDAwMDAwMCIsImR0eXBlIjoiRjMyIiwiZW5kIjoxNjAsImZp\
            bGUiOiJtb2RlbC0wMDAwMS1vZi0wMDAwMi5zYWZldGVuc29ycyIsIm5hbWUiOiJub25lIiwic2hhcGUiOlswLDNdfSwKeyJiZWdpbiI6\
            MTYwLCJjcmMzMmMiOiJEQzM0QUY2MCIsImR0eXBlIjoiQkYxNiIsImVuZCI6MTcwLCJmaWxlIjoibW9kZWwtMDAwMDEtb2YtMDAwMDIu\
            c2FmZXRlbnNvcnMiLCJuYW1lIjoic2NhbGUiLCJzaGFwZSI6WzVdfSwKeyJiZWdpbiI6MTIwLCJjcmMzMmMiOiI4RkM5QUM4RiIsImR0\
            eXBlIjoiRjMyIiwiZW5kIjoxNjgsImZpbGUiOiJvcHRpbWl6ZXItMDAwMDEtb2YtMDAwMDIuc2FmZXRlbnNvcnMiLCJuYW1lIjoibW9t\
            ZW50dW0uZW1iZWQud2VpZ2h0Iiwic2hhcGUiOls0LDNdfSwKeyJiZWdpbiI6MTc2LCJjcmMzMmMiOiI3N0M5MjVBNyIsImR0eXBlIjoi\
            RjMyIiwiZW5kIjoyMjQsImZpbGUiOiJtb2RlbC0wMDAwMi1vZi0wMDAwMi5zYWZldGVuc29ycyIsIm5hbWUiOiJlbWJlZC53ZWlnaHQi\
            LCJzaGFwZSI6WzQsM119LAp7ImJlZ2luIjoyMjQsImNyYzMyYyI6IjBEODFCQjJEIiwiZHR5cGUiOiJGMzIiLCJlbmQiOjIzNiwiZmls\
            ZSI6Im1vZGVsLTAwMDAyLW9mLTAwMDAyLnNhZmV0ZW5zb3JzIiwibmFtZSI6Im5vcm0ud2VpZ2h0Iiwic2hhcGUiOlszXX0sCnsiYmVn\
            aW4iOjk2LCJjcmMzMmMiOiI0MzEyRjdCNiIsImR0eXBlIjoiSTY0IiwiZW5kIjoxMDQsImZpbGUiOiJvcHRpbWl6ZXItMDAwMDItb2Yt\
            MDAwMDIuc2FmZXRlbnNvcnMiLCJuYW1lIjoiY291bnQiLCJzaGFwZSI6W119Cl0sCiJ0b2tlbnMiOjQ0OCwKInZlcnNpb24iOjEsCiJ3\
            b3JsZF9zaXplIjoyCn0K
            """,
        "model-00001-of-00002.safetensors": """
            mAAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJub25lIjp7ImR0eXBlIjoiRjMyIiwic2hhcGUiOlswLDNdLCJk\
            YXRhX29mZnNldHMiOlswLDBdfSwic2NhbGUiOnsiZHR5cGUiOiJCRjE2Iiwic2hhcGUiOls1XSwiZGF0YV9vZmZzZXRzIjpbMCwxMF19\
            fSAgIAAHDhUcIyoxOD8=
            """,
        "model-00002-of-00002.safetensors": """
            qAAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJlbWJlZC53ZWlnaHQiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6\
            WzQsM10sImRhdGFfb2Zmc2V0cyI6WzAsNDhdfSwibm9ybS53ZWlnaHQiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzNdLCJkYXRhX29m\
            ZnNldHMiOls0OCw2MF19fSAgICBwd36FjJOaoaivtr3Ey9LZ4Ofu9fwDChEYHyYtNDtCSVBXXmVsc3qBiI+WnaSrsrnAx87V3OPq8fj/\
            Bg0=
            """,
        "optimizer-00001-of-00002.safetensors": """
            cAAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJtb21lbnR1bS5lbWJlZC53ZWlnaHQiOnsiZHR5cGUiOiJGMzIi\
            LCJzaGFwZSI6WzQsM10sImRhdGFfb2Zmc2V0cyI6WzAsNDhdfX0gICAgvMPK0djf5u30+wIJEBceJSwzOkFIT1ZdZGtyeYCHjpWco6qx\
            uL/GzdTb4unw9/4F
            """,
        "optimizer-00002-of-00002.safetensors": """
            WAAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJjb3VudCI6eyJkdHlwZSI6Ikk2NCIsInNoYXBlIjpbXSwiZGF0\
            YV9vZmZzZXRzIjpbMCw4XX19eH+GjZSboqk=
            """,
        "tokenizer.json": """
            eyJraW5kIjoiYnl0ZXMiLCJlbmQiOjI1Nn0=
            """,
    ]
}
