; A robot pushes boxes on a grid, one at a time, never pulling. `clear` means: no box and no wall.
(define (domain sokoban)
  (:requirements :strips :typing)
  (:types location direction box)
  (:constants down up left right - direction)
  (:predicates
    (at-robot ?l - location)
    (at ?b - box ?l - location)
    (adjacent ?from ?to - location ?d - direction)
    (clear ?l - location))

  (:action move
    :parameters (?from ?to - location ?d - direction)
    :precondition (and (at-robot ?from) (adjacent ?from ?to ?d) (clear ?to))
    :effect (and (at-robot ?to) (not (at-robot ?from))))

  (:action push
    :parameters (?robot ?from ?to - location ?d - direction ?b - box)
    :precondition (and (at-robot ?robot) (at ?b ?from) (clear ?to)
                       (adjacent ?robot ?from ?d) (adjacent ?from ?to ?d))
    :effect (and (at-robot ?from) (at ?b ?to) (clear ?from)
                 (not (at-robot ?robot)) (not (at ?b ?from)) (not (clear ?to)))))
