"""The faults that ``mutants.py`` plants: which changes a module's syntax tree may have, one at a time."""

from __future__ import annotations

import ast

_SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_CALLS = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "amin": "amax",
    "floor": "ceil",
    "ceil": "floor",
}
_UNTOUCHED = {"annotation", "returns", "decorator_list", "type_params"}


def mutations(node: ast.AST) -> list[ast.AST]:
    """What may stand in place of a node."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=right) if type(op) in _SWAPS:
            return [ast.Compare(left, [_SWAPS[type(op)]()], right)]
        case ast.Compare(left=left, ops=ops, comparators=right):
            swapped = [
                [_SWAPS[type(o)]() if i == n else o for i, o in enumerate(ops)] for n in range(len(ops))
            ]
            return [ast.Compare(left, ops, right) for ops in swapped]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _SWAPS:
            return [ast.BinOp(left, _SWAPS[type(op)](), right)]
        case ast.AugAssign(target=target, op=op, value=value) if type(op) in _SWAPS:
            return [ast.AugAssign(target, _SWAPS[type(op)](), value)]
        case ast.BoolOp(op=op, values=values):
            return [ast.BoolOp(_SWAPS[type(op)](), values)]
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            return [operand]
        case ast.Constant(value=bool() as value):
            return [ast.Constant(not value)]
        case ast.Constant(value=int() | float() as value):
            return [ast.Constant(value + 1)]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in _CALLS:
            return [ast.Call(ast.Name(_CALLS[name], ast.Load()), args, keywords)]
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=args, keywords=keywords) if (
            name in _CALLS
        ):
            return [ast.Call(ast.Attribute(value, _CALLS[name], ast.Load()), args, keywords)]
        case ast.If(test=test, body=body, orelse=orelse):
            return [ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)]
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return [ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse)]
        case ast.Return(value=ast.expr() as value) if not (
            isinstance(value, ast.Constant) and value.value is None
        ):
            return [ast.Return(ast.Constant(None))]
    return []


class Mutant:
    """One change: ``new`` where ``parent`` holds ``field``, at ``place`` of it if that is a list."""

    def __init__(self, path: str, parent: ast.AST, field: str, place: int | None, new: ast.AST, where: tuple):
        self.parent, self.field, self.place = parent, field, place
        self.old = getattr(parent, field) if place is None else getattr(parent, field)[place]
        self.new, (self.lines, self.in_function) = ast.copy_location(new, self.old), where
        short = [" ".join(ast.unparse(node).split())[:70] for node in (self.old, self.new)]
        self.text = f"{path}:{self.old.lineno}: {short[0]}  ->  {short[1]}"

    def put(self, node: ast.AST) -> None:
        """Set the old or the new node into the tree."""
        if self.place is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.place] = node


def find_mutants(path: str, tree: ast.AST) -> list[Mutant]:
    """All of a module's mutants, in the order of its lines; none in annotations, decorators and messages."""
    found = []

    def visit(node: ast.AST, lines: range, in_function: bool) -> None:
        if isinstance(node, ast.Raise | ast.JoinedStr):
            return
        inside = in_function or isinstance(node, ast.FunctionDef | ast.Lambda)
        for field, value in ast.iter_fields(node):
            for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.AST) and field not in _UNTOUCHED:
                    if isinstance(child, ast.stmt):
                        body = getattr(child, "body", None)
                        lines = range(child.lineno, (body[0].lineno if body else child.end_lineno + 1))
                    for new in mutations(child):
                        found.append(Mutant(path, node, field, place, new, (lines, inside)))
                    visit(
                        child, lines, inside and not (isinstance(node, ast.FunctionDef) and field == "args")
                    )

    visit(tree, range(0), False)
    return found
