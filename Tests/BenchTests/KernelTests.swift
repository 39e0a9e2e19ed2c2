import Bench
import Tensor
import Testing
import TestSupport

/// The descriptions that `bench kernels` times, held against their own references.
@Suite struct KernelTests {
    @Test func theListIsComplete() throws {
        let names = try Kernel.all(.small).map(\.name)
        #expect(Set(names).count == names.count)
        #expect(try Kernel.all(.large).map(\.name) == names)
    }

    private func values(_ matrices: [Matrix]) -> [[Double]] { matrices.map { doubles($0.values) } }

    @Test(arguments: try Kernel.all(.small).map(\.name)) func forwardEqualsTheReference(_ name: String) throws {
        let kernel = try #require(try Kernel.all(.small).first { $0.name == name })
        let memory = try KernelMemory(kernel)
        let want = kernel.reference(values(memory.operands.inputs))
        memory.runForward()
        for (got, want) in zip(memory.operands.outputs, want) { #expect(relativeError(got.values, want) < 3e-6) }
        #expect(want.count >= 1 && want.count <= memory.operands.outputs.count)
    }

    @Test(arguments: try Kernel.all(.small).filter { $0.backward != nil }.map(\.name))
    func backwardEqualsDifferences(_ name: String) throws {
        let kernel = try #require(try Kernel.all(.small).first { $0.name == name })
        let backward = try #require(kernel.backward)
        let memory = try KernelMemory(kernel)
        let inputs = values(memory.operands.inputs)
        memory.runForward()
        memory.runBackward()
        for (input, got) in zip(backward.of, memory.operands.gradients) {
            let slopes = gradient(of: { moved in
                var changed = inputs
                changed[input] = moved
                return weighted(kernel.reference(changed)[0], by: inputs[backward.seed])
            }, at: inputs[input])
            #expect(relativeError(got.values, slopes) < 1e-5, "input \(input)")
        }
        #expect(backward.of.count == memory.operands.gradients.count)
        // Inputs are inputs: neither pass has changed them.
        #expect(values(memory.operands.inputs) == inputs)
    }

    /// What is timed is what is tested: the same operands again give the same results.
    @Test(arguments: try Kernel.all(.small).map(\.name)) func resetRepeats(_ name: String) throws {
        let kernel = try #require(try Kernel.all(.small).first { $0.name == name })
        let memory = try KernelMemory(kernel)
        func once() -> [[Double]] {
            memory.reset()
            memory.runForward()
            memory.runBackward()
            return values(memory.operands.outputs + memory.operands.gradients)
        }
        #expect(once() == once())
        #expect(kernel.forward.bytes > 0 && kernel.forward.flops >= 0)
    }
}
